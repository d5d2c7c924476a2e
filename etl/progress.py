"""Progress bars: on a terminal only, so that logs stay readable."""

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def counted(label: str, total: int | None = None) -> Callable[[Iterable[T]], Iterable[T]]:
    """Return a wrapper that shows how many items have passed, and how fast."""
    from tqdm import tqdm

    return lambda items: tqdm(items, desc=label, total=total, unit=" items", disable=None, smoothing=0.1)
