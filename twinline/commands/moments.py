"""Moments on the command line: `2h` ago, or ISO 8601."""

import re
from datetime import UTC, datetime, timedelta

from twinline.contract.errors import SettingsError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str | None, now: datetime | None = None) -> datetime | None:
    """Return the moment that a text names; a time without a zone is UTC. None for None.

    Raises:
        SettingsError: it names none.
    """
    if text is None:
        return None
    if ago := re.fullmatch(r"(\d{1,6})([smhdw])", text.strip()):
        try:
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except OverflowError as exc:
            raise SettingsError(f"{text!r} ago is before the calendar's first day: name a shorter time") from exc
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        raise SettingsError(
            f"{text!r} is no moment: say how long ago, as 90s, 30m, 2h, 1d or 1w, or a time, as 2026-01-31T08:00 (UTC)"
        ) from exc
    return found if found.tzinfo else found.replace(tzinfo=UTC)
