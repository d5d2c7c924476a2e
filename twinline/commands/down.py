"""`twinline down`: stop the embedded stack."""

from rich.console import Console

from twinline.clients.settings import load_settings
from twinline.stack import lifecycle


def command() -> None:
    """Stop the stack: every message kept, no process left, also after a crash."""
    settings = load_settings()
    settings.find_home()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    lifecycle.down(settings, waiting=console.status, report=console.print)
    console.print(f"The stack is down. Its state stays in {settings.home}; `twinline up` goes on from there.")
