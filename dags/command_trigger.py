"""The former name of `twinline.scheduling.trigger`: tasks deferred under it resume after an upgrade."""

from twinline.scheduling.trigger import CommandEnd

__all__ = ["CommandEnd"]
