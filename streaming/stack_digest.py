"""A short digest of an error's stack, so that failures of one kind can be counted together."""

import hashlib
from types import TracebackType

_DIGITS = 12
# A runaway recursion repeats itself: its last frames suffice.
_MOST_FRAMES = 50


def stack_digest(error: BaseException) -> str:
    """Return a digest of the types and frames of an error and of its causes.

    A frame is a module, a function, and the line within the function. The message and the installation path do not count, nor
    does a change elsewhere in the file.
    """
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        parts += [f"{type(current).__module__}.{type(current).__qualname__}", *_frames(current.__traceback__)]
        current = current.__cause__ or current.__context__
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_DIGITS]


def _frames(traceback: TracebackType | None) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        module = traceback.tb_frame.f_globals.get("__name__", "")
        frames.append(f"{module}:{code.co_qualname}:{traceback.tb_lineno - code.co_firstlineno}")
        traceback = traceback.tb_next
    return frames[-_MOST_FRAMES:]
