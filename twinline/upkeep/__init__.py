"""Care of a running index: skew, traces, reconciliation, erasure, replay, dead letters and questions."""
