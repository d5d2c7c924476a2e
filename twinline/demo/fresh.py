"""A new document: published, and searched for until it is found."""

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Final

from etl.feeds import lines_feed
from etl.lineage import find_lineage
from etl.publish import publish_documents
from twinline.clients.settings import Settings
from twinline.commands.search import ask
from twinline.contract.errors import TransientError
from twinline.contract.principal import LOCAL_OPERATOR

SOURCE: Final = "demo"
_PATIENCE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Found:
    """Seconds until Kafka had the document, and from then until a search found it."""

    title: str
    query: str
    publish_ms: float
    found_ms: float


def publish_and_find(settings: Settings, moment: datetime | None = None) -> Found:
    """Publish one new document and search for it until it is found.

    Raises:
        TransientError: it was not found for half a minute.
    """
    at = moment or datetime.now(UTC)
    key = f"note-{at:%Y%m%d-%H%M%S-%f}"
    title = f"Harbour log of {at:%d %B %Y, %H:%M:%S}"
    text = f"At {at:%H:%M:%S} the ferry Amaranth left pier nine for Saltholm with {at.microsecond} crates of quinces on board."
    query = f"How many crates of quinces did the ferry Amaranth carry at {at:%H:%M:%S}?"
    line = json.dumps({"source": SOURCE, "key": key, "title": title, "text": text})

    began = time.perf_counter()
    lineage = find_lineage(os.environ, settings.project)
    publish_documents(lines_feed(BytesIO(line.encode()), SOURCE), settings, lineage, LOCAL_OPERATOR)
    published = time.perf_counter()
    while not _is_found(settings, query, key):
        if time.perf_counter() - published > _PATIENCE_SECONDS:
            raise TransientError(
                f"document [{SOURCE}, {key}] was published and not found within {_PATIENCE_SECONDS:.0f} s: see `twinline "
                "status` for the consumer's lag, and `twinline dead-letters`"
            )
        time.sleep(_POLL_SECONDS)
    return Found(title, query, (published - began) * 1000, (time.perf_counter() - published) * 1000)


def _is_found(settings: Settings, query: str, key: str) -> bool:
    hits = ask(settings.search_url, {"query": query, "limit": 50, "source": SOURCE, "group": False})["hits"]
    return any(hit["key"] == key for hit in hits)
