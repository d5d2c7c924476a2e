"""The files that stages hand to each other, by their paths in the checkout, and the kinds of artefact that are registered.

Names only: `dvc.yaml` spells the same paths, and a test compares. A registered version is fetched by the path that it was
registered under, so a path never changes for a kind that has versions.
"""

from dataclasses import dataclass
from typing import Final

PARAMS: Final = "params.yaml"
LOCK: Final = "dvc.lock"

# The data stages, which all kinds share.
SNAPSHOT: Final = "data/snapshot"
SNAPSHOT_RECORD: Final = f"{SNAPSHOT}/snapshot.json"
PREPARED: Final = "data/prepared"
DOCUMENTS: Final = f"{PREPARED}/documents.parquet"
PAIRS: Final = "data/pairs"
TRAIN_PAIRS: Final = f"{PAIRS}/train.parquet"
QUERIES: Final = f"{PAIRS}/queries.parquet"
JUDGEMENTS: Final = f"{PAIRS}/judgements.parquet"
WITHHELD: Final = f"{PAIRS}/withheld.parquet"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What the stages make of one kind of model, as DVC and GTO call it.

    Args:
        name: in the registry; also the prefix of its stages, and its section of params.yaml.
        targets: the stages that everything else of it leads to.
        champion: the parameter that names the release to be compared with.
        trained: weights as training leaves them.
        curves: of training, for `dvc plots`.
        exported: every format, before any is judged.
        parity: exported formats against the training framework.
        evaluation: folder of the next four.
        scores: what the evaluation measured.
        fusion: how search makes one list of vectors and words, as the evaluation chose.
        verdict: the checks of the evaluation.
        held_out: the queries that the evaluation kept.
        words: corpus statistics, and the sparse part of the contract.
        quality: what each format costs.
        profile: what live texts are compared with.
        release: what is registered, fetched and served.
    """

    name: str
    targets: tuple[str, ...]
    champion: str
    trained: str
    curves: str
    exported: str
    parity: str
    evaluation: str
    scores: str
    verdict: str
    held_out: str
    fusion: str
    words: str
    quality: str
    profile: str
    release: str


ENCODER: Final = Artifact(
    name="encoder",
    targets=("encoder-package",),
    champion="encoder.evaluate.champion",
    trained="models/encoder",
    curves="plots/train.tsv",
    exported="models/exported",
    parity="models/parity.json",
    evaluation="models/evaluation",
    scores="models/evaluation/evaluation.json",
    verdict="models/evaluation/verdict.json",
    held_out="models/evaluation/heldout",
    fusion="models/evaluation/fusion.json",
    words="models/words",
    quality="models/quality.json",
    profile="models/profile",
    release="models/release",
)
