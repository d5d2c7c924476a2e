"""The encoders to compare, each under its own contract: the tuned one, the base model and the champion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from train.encoder.base_contract import own_contract
from train.encoder.torch_encoder import TorchEncoder
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import MismatchError, SettingsError
from twinline.contract.release.manifest import MANIFEST_FILE, Manifest

TUNED = "tuned"
BASE = "base"
BASE_HERE = "base_under_this_contract"
CHAMPION = "champion"


@dataclass(frozen=True)
class Contender:
    """An encoder with its contract for serving."""

    name: str
    encoder: TorchEncoder
    preprocessor: Preprocessor


def contenders(tuned: Path, base: Path, champion: str, home: Path) -> Iterator[Contender]:
    """Yield the tuned encoder, the base model and, where there is one, the champion.

    The base model comes under its own contract: under the tuned encoder's, a wrong prefix would hurt both and go unseen. Where
    the two contracts differ, it comes under the tuned encoder's as well, which shows the effect of training alone.

    Raises:
        SettingsError: the champion is not below `home`.
        MismatchError: an encoder differs from its record.
    """
    preprocessor = Preprocessor.load(tuned)
    yield Contender(TUNED, TorchEncoder.load(tuned), preprocessor)
    own = Preprocessor(*own_contract(base))
    yield Contender(BASE, TorchEncoder.load(base, own), own)
    if own.contract.fingerprint != preprocessor.contract.fingerprint:
        yield Contender(BASE_HERE, TorchEncoder.load(base, preprocessor), preprocessor)
    if champion:
        yield _champion(champion, home)


def _champion(release: str, home: Path) -> Contender:
    folder = home / "releases" / release
    if not (folder / MANIFEST_FILE).is_file():
        raise SettingsError(
            f"params.yaml encoder.evaluate.champion = {release!r} is not in {folder.parent}: fetch it "
            f"(`twinline release fetch {release}`), or leave encoder.evaluate.champion empty to compare with the base model alone"
        )
    manifest = Manifest.load(folder)
    encoder = TorchEncoder.load(folder / "encoder")
    if (manifest.release, manifest.space) != (release, encoder.space):
        raise MismatchError(
            f"{folder} says release {manifest.release} of space {manifest.space}, its encoder is of space {encoder.space}: "
            "remove the folder, and fetch the release again"
        )
    return Contender(CHAMPION, encoder, Preprocessor.load(folder / "encoder"))
