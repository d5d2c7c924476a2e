"""All proofs, one after the other, each in a process of its own; a failed one does not keep the next from running."""

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

LONG_FORMS: Final[tuple[tuple[str, ...], ...]] = (
    ("skew",),
    ("gates",),
    ("kills",),
    ("switch",),
    ("roles",),
    ("hostile",),
    ("foreign",),
    ("foreign", "--broker", "embedded"),
    ("clock",),
    ("strange-machine",),
    ("one-clone",),
    ("chaos", "--kills", "100"),
)


def run_every_proof(forms: Sequence[Sequence[str]] = LONG_FORMS) -> bool:
    """Run each form, print one table, and return whether all ended with 0."""
    table = Table("proof", "exit code", "seconds", title="Proofs")
    codes = []
    for form in forms:
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "proofs", *form], check=False)
        codes.append(done.returncode)
        table.add_row(" ".join(form), str(done.returncode), f"{time.monotonic() - began:.0f}")
    Console().print(table)
    return not any(codes)
