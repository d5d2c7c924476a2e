"""Planted bad encoders: each must be refused by the right gate, in a real run of the DAG."""
