"""What a person reads of a trace."""

import io

from rich.console import Console

from twinline.upkeep.trace.show import show
from twinline.upkeep.trace.steps import Step, Trace


def test_no_hash_or_address_is_cut_off_on_a_narrow_terminal() -> None:
    written = io.StringIO()
    digest, address = "0123456789abcdef" * 4, "file:///srv/documents/" + "long/" * 60 + "name.md"

    show(
        Trace(
            "a hit",
            (Step("source", "file SHA-256", digest, digest, "VERIFIED"), Step("source", "file", address, None, "RECORDED")),
        ),
        Console(file=written, width=40),
    )

    assert digest in written.getvalue()
    assert address in written.getvalue()
