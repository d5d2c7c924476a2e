"""Hashes over our own code: results of other code are not reused."""

from pathlib import Path
from typing import Final

from twinline.contract.canonical import JSON, fingerprint, sha256_hex
from twinline.contract.errors import ContractError

# The folder that `twinline` and the stages lie in: a checkout, or site-packages.
PACKAGES: Final = Path(__file__).resolve().parents[2]

# All code that an exported and packaged base model depends on.
BASE_RELEASE: Final = ("twinline.contract", "export", "twinline.clients.base_model")


def code_hashes(*names: str, root: Path = PACKAGES) -> dict[str, JSON]:
    """Return the SHA-256 of each file behind dotted names of modules and packages; a package means all below it.

    Raises:
        ContractError: a name is neither a module nor a package, so that its code would go unnoticed.
    """
    found: dict[str, JSON] = {}
    for name in names:
        place = root / name.replace(".", "/")
        paths = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        if not paths or not paths[0].is_file():
            raise ContractError(f"{name} is no code below {root}: correct the list of code that decides a result")
        found |= {path.relative_to(root).as_posix(): sha256_hex(path.read_bytes()) for path in paths}
    return found


def code_fingerprint(*names: str, root: Path = PACKAGES) -> str:
    """Return one hash over the result of `code_hashes`."""
    return fingerprint(code_hashes(*names, root=root))
