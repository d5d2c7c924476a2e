"""Logs for machines and people: one JSON object a line on standard error, never the text of a document or a query.

Modules log as the standard library does: an event's name, and its values in `extra`.
"""

import logging
import sys

import structlog


def configure(level: int = logging.INFO) -> None:
    """Send every log record of this process through one formatter. Called once, in a `__main__`."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            # Values without a JSON form, such as an exception in `extra`, are written as text.
            structlog.processors.JSONRenderer(default=str),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Our line for each request has its duration; the libraries' own lines would double it.
    for noisy in ("uvicorn", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Its failures reach us as exceptions, logged once; its own log has five lines for every attempted connection.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
