"""The wheel: built from what Git tracks or would track, and compared with what it must hold."""

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bench.checkout import CHECKOUT
from twinline.clients.hidden import OURS
from twinline.contract.errors import ContractError

# Of our packages, what is for readers of the checkout only.
_LEFT_OUT: Final = {"triton_models/README.md"}


def tracked_files() -> list[str]:
    """Return the files that Git tracks or would track."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (CHECKOUT / name).is_file()]


def copy_files(names: Iterable[str], target: Path) -> None:
    """Copy files of the checkout, each to its place below a folder."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, target / name)


def build_wheel(folder: Path) -> Path:
    """Build the wheel in a copy of the checkout, and return it.

    Raises:
        ContractError: it cannot be built; what pip said is above.
    """
    source, target = folder / "source", folder / "wheel"
    for made in (source, target):
        shutil.rmtree(made, ignore_errors=True)
    copy_files(tracked_files(), source)
    # Without isolation: setuptools is here, and nothing else is needed.
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(target),
        ".",
    ]
    done = subprocess.run(command, cwd=source, stdout=sys.stderr, check=False)
    wheels = list(target.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise ContractError(f"`{' '.join(command[1:])}` ended with {done.returncode} and made {len(wheels)} wheels: see above")
    return wheels[0]


def wheel_faults(wheel: Path) -> list[str]:
    """Return what the wheel has too much or too little of, against the files of our packages in the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist() if not entry.is_dir()}
    own = {name for name in packed if not name.partition("/")[0].endswith(".dist-info")}
    wanted = {name for name in tracked_files() if name.partition("/")[0] in OURS and "/" in name} - _LEFT_OUT
    return [
        *(f"{name} is not in the wheel: add it to package-data in pyproject.toml" for name in sorted(wanted - own)),
        *(f"{name} is in the wheel and in no package of ours" for name in sorted(own - wanted)),
        *(
            f"{name} can be run in the checkout and not from the wheel"
            for name in sorted(own & wanted)
            if os.access(CHECKOUT / name, os.X_OK) and not packed[name] & stat.S_IXUSR
        ),
    ]
