"""Verification of a collection before it answers: checks of the index, live quality, and the record of both."""
