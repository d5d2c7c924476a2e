"""Twinline: the library that training and serving share, and the `twinline` command."""
