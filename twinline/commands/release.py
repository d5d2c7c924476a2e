"""`twinline release`: the steps of `python -m release`."""

from release.__main__ import app

__all__ = ["app"]
