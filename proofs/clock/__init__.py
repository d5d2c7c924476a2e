"""Clocks that step, the broker's and ours: nothing is lost, and a rollback takes its usual time."""
