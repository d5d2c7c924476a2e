"""Proofs: commands that end with 0 or 1 and print figures."""
