"""Limits on what is given to an encoder, for those too that load none."""

from typing import Final

MAX_QUERY_CHARS: Final = 8_192
