"""Roles: each runs from the wheel with its own packages alone, and the wheel holds what it must and nothing else."""
