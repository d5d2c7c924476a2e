"""A release folder, read whole: manifest, runnable contract, golden texts. Parts that do not fit together are refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from twinline.contract.canonical import sha256_hex
from twinline.contract.encoder.golden import GOLDEN_FILE, GoldenSet, check_tokens, read_golden
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import MismatchError
from twinline.contract.release.manifest import Fingerprints, Manifest
from twinline.contract.sparse.golden import GOLDEN_WORDS_FILE, check_golden_words
from twinline.contract.sparse.weights import Words


@dataclass(frozen=True, slots=True)
class ReleaseFolder:
    """The parts of a release for every process that writes or reads its vectors."""

    manifest: Manifest
    preprocessor: Preprocessor
    golden: GoldenSet
    words: Words | None = None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a release folder.

        Raises:
            MismatchError: a file is missing or was changed, contract and manifest belong to two releases, or this process gives
                other tokens for a golden text.
        """
        manifest = Manifest.load(folder)
        preprocessor = Preprocessor.load(folder)
        found = Fingerprints.of(preprocessor.contract)
        if found != manifest.fingerprints:
            raise MismatchError(
                f"release folder {folder}: its contract has fingerprint {found.contract}, its manifest says "
                f"{manifest.fingerprints.contract}: fetch the release again"
            )
        # By its bytes: the golden texts judge all other doors.
        _check_bytes(folder, GOLDEN_FILE, manifest)
        entries = read_golden(folder)
        check_tokens(entries, preprocessor, f"release {manifest.release} in this process")
        golden = GoldenSet(entries, manifest.serving_format().parity.limit)
        return cls(manifest, preprocessor, golden, _words(folder, manifest, preprocessor))


def _words(folder: Path, manifest: Manifest, preprocessor: Preprocessor) -> Words | None:
    """Return the release's words, compared with its golden ones; None in a release without words."""
    sparse = preprocessor.contract.index.sparse
    if (sparse is None) != (manifest.fusion is None):
        named, other = ("manifest", "contract") if sparse is None else ("contract", "manifest")
        raise MismatchError(f"release folder {folder}: its {named} has words, its {other} has none: fetch the release again")
    if sparse is None:
        return None
    _check_bytes(folder, GOLDEN_WORDS_FILE, manifest)
    words = Words.load(folder, sparse)
    check_golden_words(folder, words)
    return words


def _check_bytes(folder: Path, name: str, manifest: Manifest) -> None:
    """Raise MismatchError unless a file has the SHA-256 that the manifest names."""
    digest = sha256_hex((folder / name).read_bytes()) if (folder / name).is_file() else "none"
    if digest != manifest.files.get(name):
        raise MismatchError(
            f"release folder {folder}: {name} has SHA-256 {digest}, its manifest says {manifest.files.get(name)}: fetch the "
            "release again"
        )
