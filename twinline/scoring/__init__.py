"""How well a ranking answers judged queries: metrics, paired comparison, exact ranking, BM25; no torch, no network."""
