"""The encoders to compare, each under its own contract: the tuned one, the base model and the champion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from train.encoder.base_contract import own_contract
from train.encoder.cache import Encoder
from train.encoder.proven_encoder import Proven, ProvenEncoder, find_proven, proven_export, release_folders
from train.encoder.torch_encoder import TorchEncoder
from train.hardware import device
from train.weights import weights_sha256
from twinline.contract.encoder.encoder_record import check_encoder
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import MismatchError, SettingsError
from twinline.contract.release.manifest import MANIFEST_FILE, Manifest

TUNED = "tuned"
BASE = "base"
BASE_HERE = "base_under_this_contract"
CHAMPION = "champion"


@dataclass(frozen=True)
class Contender:
    """An encoder with its contract for serving; `by` says what runs it."""

    name: str
    encoder: Encoder
    preprocessor: Preprocessor
    by: str


def contenders(tuned: Path, base: Path, champion: str, home: Path, export: Path | None, parity: Path) -> Iterator[Contender]:
    """Yield the tuned encoder, the base model and, where there is one, the champion.

    Each runs by an fp32 file that parity proved, where there is one, and by torch otherwise.

    The base model comes under its own contract: under the tuned encoder's, a wrong prefix would hurt both and go unseen. Where
    the two contracts differ, it comes under the tuned encoder's as well, which shows the effect of training alone.

    Raises:
        SettingsError: the champion is not below `home`.
        MismatchError: an encoder differs from its record.
    """
    preprocessor = Preprocessor.load(tuned)
    check_encoder(tuned, preprocessor.contract, weights_sha256(tuned))
    exact = proven_export(tuned, export, parity) if export else None
    yield _contender(TUNED, exact, tuned, None, preprocessor)
    own = Preprocessor(*own_contract(base))
    yield _contender(BASE, _proven_base(base, own, home), base, own, own)
    if own.contract.fingerprint != preprocessor.contract.fingerprint:
        yield _contender(BASE_HERE, _proven_base(base, preprocessor, home), base, preprocessor, preprocessor)
    if champion:
        yield _champion(champion, home)


def _contender(
    name: str, proven: Proven | None, folder: Path, given: Preprocessor | None, preprocessor: Preprocessor
) -> Contender:
    # A GPU runs torch faster than a CPU runs anything; and an exported graph always normalises.
    if proven is None or device().type != "cpu" or not preprocessor.contract.vector.normalize:
        return Contender(name, TorchEncoder.load(folder, given), preprocessor, "torch")
    return Contender(name, ProvenEncoder.load(proven, preprocessor), preprocessor, proven.proof)


def _proven_base(base: Path, preprocessor: Preprocessor, home: Path) -> Proven | None:
    return find_proven(release_folders(home), weights_sha256(base), preprocessor.contract.vector.pooling)


def _champion(release: str, home: Path) -> Contender:
    folder = home / "releases" / release
    if not (folder / MANIFEST_FILE).is_file():
        raise SettingsError(
            f"params.yaml encoder.evaluate.champion = {release!r} is not in {folder.parent}: fetch it "
            f"(`twinline release fetch {release}`), or leave encoder.evaluate.champion empty to compare with the base model alone"
        )
    manifest = Manifest.load(folder)
    preprocessor = Preprocessor.load(folder / "encoder")
    weights = weights_sha256(folder / "encoder")
    space = check_encoder(folder / "encoder", preprocessor.contract, weights)
    if (manifest.release, manifest.space) != (release, space):
        raise MismatchError(
            f"{folder} says release {manifest.release} of space {manifest.space}, its encoder is of space {space}: "
            "remove the folder, and fetch the release again"
        )
    proven = find_proven([folder], weights, preprocessor.contract.vector.pooling)
    return _contender(CHAMPION, proven, folder / "encoder", None, preprocessor)
