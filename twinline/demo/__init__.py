"""The parts of `twinline demo`: the chain of DAG runs, its display, and a new document."""
