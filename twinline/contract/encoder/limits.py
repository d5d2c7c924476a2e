"""Limits on what is given to an encoder, for those too that load none."""

from typing import Final

MAX_QUERY_CHARS: Final = 8_192
# Of one text, prefix not counted. Far more than any encoder's tokens take, and a bound on what tokenising one text may cost:
# the rest is cut off before, alike on every path, and counts as truncated.
MAX_ENCODED_CHARS: Final = 262_144
