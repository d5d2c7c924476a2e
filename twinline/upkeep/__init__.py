"""Care of a running index: skew, traces, reconciliation, erasure, replay and dead letters."""
