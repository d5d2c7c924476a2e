"""Scores of rankings on judged queries: metrics, paired comparison, exact ranking, BM25; no torch, no network."""
