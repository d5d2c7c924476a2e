"""The bad encoders that a gate must refuse, each planted in the pipeline as a mistake in its code or its parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from proofs.gates.clone import Patch
from twinline.contract.release.verdict import (
    BETTER_THAN_BASE,
    EXACT_NAMES,
    FORMAT_TO_SERVE,
    GUARDED_SLICES,
    NO_EVALUATION_LEAK,
    NOT_WORSE_THAN_CHAMPION,
)

# A bad ranking is worse than every reference, and on every slice.
_ALL_QUALITY: Final = frozenset({BETTER_THAN_BASE, NOT_WORSE_THAN_CHAMPION, GUARDED_SLICES})
_AS_IT_IS: Final[Mapping[str, Any]] = {"encoder.train.epochs": 0, "encoder.train.max_steps": 0}


@dataclass(frozen=True)
class Case:
    """One bad encoder.

    Attributes:
        planted: the fault, in words.
        gate: the check that must refuse it.
        also: checks that may refuse it as well, because the fault shows there too.
        short: whether the short run has it.
    """

    name: str
    planted: str
    gate: str
    params: Mapping[str, Any] = field(default_factory=dict)
    patches: Sequence[Patch] = ()
    also: frozenset[str] = frozenset()
    short: bool = False


CASES: Final = (
    Case(
        "shuffled weights",
        "the training stage saves every weight matrix with its numbers in another order",
        BETTER_THAN_BASE,
        params=_AS_IT_IS,
        patches=[
            Patch(
                "train/encoder/fit.py",
                '    beside = encoder.with_name(f"{encoder.name}.{os.getpid()}.new")\n',
                '    beside = encoder.with_name(f"{encoder.name}.{os.getpid()}.new")\n'
                "    import torch\n\n"
                "    torch.manual_seed(0)\n"
                "    for weights in model.parameters():\n"
                "        if weights.dim() == 2:\n"
                "            weights.data = weights.data.flatten()[torch.randperm(weights.numel())].view_as(weights)\n",
            )
        ],
        also=_ALL_QUALITY,
        short=True,
    ),
    Case(
        "trained on noise",
        "each training query stands beside a document that another one asked for, and the steps are large",
        BETTER_THAN_BASE,
        params={"encoder.train.learning_rate": 5e-4, "encoder.train.warmup_ratio": 0.0},
        patches=[
            Patch(
                "train/encoder/pairs.py",
                "    return TrainingPairs(queries, documents, dict(set_aside))\n",
                "    import random\n\n"
                "    random.Random(0).shuffle(documents)\n"
                "    return TrainingPairs(queries, documents, dict(set_aside))\n",
            )
        ],
        also=_ALL_QUALITY,
    ),
    Case(
        "wrong prefix",
        "the new contract puts another task's instruction before every query; the weights are the base model's",
        BETTER_THAN_BASE,
        params={
            **_AS_IT_IS,
            "encoder.contract.query_prefix": "Say whether this review of a film is kind or unkind, and name the actors, the "
            "director, the composer, the cinema and the price of the popcorn: ",
        },
        also=_ALL_QUALITY,
    ),
    Case(
        "bad int8",
        "int8 is calibrated on one empty text, and is the only format that may be served",
        FORMAT_TO_SERVE,
        params={
            "encoder.export.formats": ["onnx_fp32", "openvino_fp32", "openvino_int8"],
            "encoder.package.serve": ["openvino_int8"],
        },
        patches=[
            Patch(
                "export/encoder/calibration.py",
                "    ids = [",
                '    return preprocessor.encode(["", ""], "document").token_ids\n    ids = [',
            )
        ],
    ),
    Case(
        "leaking split",
        "behind its own check, the pairs stage writes the development pairs into the training file as well",
        NO_EVALUATION_LEAK,
        patches=[
            Patch(
                "etl/pairs.py",
                "block.filter(pa.array(wanted[rows]))",
                "block.filter(pa.array(wanted[rows] | chosen[DEV][rows]))",
            )
        ],
        short=True,
    ),
    Case(
        "names lost",
        "the fusion is by ranks, of the version that knows no names, and is taken whether it gains or not",
        EXACT_NAMES,
        patches=[
            Patch(
                "train/encoder/fusion_choice.py",
                '    *(Fusion("scores", dense_percent=percent) for percent in (50, 40, 60, 30, 70, 20)),\n',
                "",
            ),
            Patch("train/encoder/fusion_choice.py", 'Fusion("ranks", k=k)', 'Fusion("ranks", version=1, k=k)'),
            Patch("train/encoder/fusion_choice.py", "interval.mean > 0 and interval.low > -params.margin", "True"),
        ],
    ),
    Case(
        "worse than champion",
        "the base model as it is, while a tuned release is in production",
        NOT_WORSE_THAN_CHAMPION,
        params=_AS_IT_IS,
        also=frozenset({GUARDED_SLICES}),
    ),
)
