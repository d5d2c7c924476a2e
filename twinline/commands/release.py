"""`twinline release`: the steps of `python -m twinline.release`."""

from twinline.release.__main__ import app

__all__ = ["app"]
