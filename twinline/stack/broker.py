"""Run the embedded Kafka broker in the foreground, and stop it without losing a message.

The broker writes a snapshot every second and exits at once on SIGTERM, which loses all later messages. If its Kafka service is
stopped first, it saves everything. So the supervisor runs this module, and this module runs the broker.

    python -m twinline.stack.broker HOST PORT DATA_FOLDER
"""

import signal
import subprocess
import sys
import threading
from importlib.resources import files
from pathlib import Path
from types import FrameType

from twinline.clients.run import run

_STOP_LIMIT_SECONDS = 60  # the broker saves one JSON file: seconds at the sizes that suit this broker
_POLL_SECONDS = 0.2


def binary() -> Path:
    """Return the broker's executable; its wheel does not mark it as executable."""
    path = Path(str(files("noida_db").joinpath("noida-db")))
    path.chmod(path.stat().st_mode | 0o111)
    return path


def stop_losslessly(data_folder: Path) -> None:
    """Save and stop the broker of a data folder; do nothing when none runs."""
    if not (data_folder / "noida.control.json").exists():
        return
    for command in (("stop", "kafka"), ("down",)):
        stopping = subprocess.run(
            [binary(), *command, "--data-dir", data_folder],
            check=False,  # "not running" is a valid answer: the broker ended by itself, or in a crash
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_STOP_LIMIT_SECONDS,
        )
        if stopping.returncode != 0:
            print(f"broker: {' '.join(command)}: {stopping.stdout}{stopping.stderr}".rstrip(), file=sys.stderr)


def serve(host: str, port: int, data_folder: Path) -> int:
    """Run the broker until SIGTERM or SIGINT, then stop it losslessly. Return its exit code."""
    stop = threading.Event()

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    data_folder.mkdir(parents=True, exist_ok=True)
    broker = subprocess.Popen(
        [binary(), "start", "--only", "kafka", "--host", host, "--kafka-port", str(port), "--data-dir", data_folder],
        stdin=subprocess.DEVNULL,
        # Its own group: a Ctrl-C in a terminal must reach this process only.
        process_group=0,
    )
    while broker.poll() is None:
        if stop.wait(_POLL_SECONDS):
            stop_losslessly(data_folder)
            return broker.wait(timeout=_STOP_LIMIT_SECONDS)
    return broker.returncode


def _serve() -> int:
    host, port, data_folder = sys.argv[1:]
    code = serve(host, int(port), Path(data_folder))
    return code if code >= 0 else 128 - code


def main() -> None:
    """Read the command line and serve; the exit code is the broker's."""
    run("broker", _serve, role="serve")


if __name__ == "__main__":
    main()
