"""How well a ranking answers judged queries: metrics, paired comparison, exact ranking and BM25. Shared by training, export, release and bench."""
