"""The sections of params.yaml for the contract, the training and the evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from twinline.contract.errors import SettingsError


@dataclass(frozen=True)
class PipelineParams:
    """The keys at the top of params.yaml, outside every stage and kind of model."""

    source: str
    snapshot: str
    erasures: str = ""


@dataclass(frozen=True)
class EncoderParams:
    """The plain keys of section `encoder`."""

    base_model: str


@dataclass(frozen=True)
class ContractParams:
    """Section `contract`. `null` takes the value from the base model's own files."""

    max_tokens: int | None
    pooling: Literal["mean", "cls", "last"] | None
    query_prefix: str | None
    document_prefix: str | None
    chunker: Literal["tokens", "none"]
    overlap_tokens: int
    title: Literal["prepend", "omit"]
    title_max_tokens: int


@dataclass(frozen=True)
class LoraParams:
    """Section `train.lora`: low-rank updates of linear layers. `rank: 0` turns them off."""

    rank: int = 0
    alpha: int = 32
    dropout: float = 0.0
    targets: list[str] = field(default_factory=list)

    # An unknown key of the mapping in params.yaml is an error, as at the level above.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise SettingsError(f"params.yaml encoder.train.lora.rank = {self.rank}: must not be negative; 0 turns LoRA off")
        if self.alpha < 1:
            raise SettingsError(f"params.yaml encoder.train.lora.alpha = {self.alpha}: must be at least 1; twice it is usual")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"params.yaml encoder.train.lora.dropout = {self.dropout}: must be in [0, 1)")


@dataclass(frozen=True)
class TrainParams:
    """Section `train`.

    `batch_size` is the number of pairs that are each other's negatives, over all GPUs together; `mini_batch_size` is the number
    on one GPU (or the CPU) at once. `max_tokens` cuts texts shorter for training only; the contract's own limit stays.
    `max_steps: 0` lets `epochs` decide; `epochs: 0` passes the base weights through. `freeze_layers: N` freezes the embeddings
    and the first N layers.
    """

    seed: int
    epochs: float
    max_steps: int
    batch_size: int
    mini_batch_size: int
    gradient_accumulation: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    scale: float
    max_tokens: int | None
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    log_every_steps: int
    checkpoint_every_steps: int
    length_grouped: bool = False
    freeze_layers: int | None = None
    lora: LoraParams = field(default_factory=LoraParams)

    def __post_init__(self) -> None:
        for name in ("batch_size", "mini_batch_size", "gradient_accumulation", "log_every_steps", "checkpoint_every_steps"):
            if getattr(self, name) < 1:
                raise SettingsError(f"params.yaml encoder.train.{name} = {getattr(self, name)}: must be at least 1")
        if self.batch_size < 2:
            raise SettingsError("params.yaml encoder.train.batch_size = 1: in-batch negatives need at least 2 pairs in a batch")
        if self.epochs < 0 or self.max_steps < 0:
            raise SettingsError("params.yaml encoder.train.epochs and train.max_steps must not be negative")
        if self.freeze_layers is not None and self.freeze_layers < 0:
            raise SettingsError(
                f"params.yaml encoder.train.freeze_layers = {self.freeze_layers}: must be 0 or more, or null to train all weights"
            )
        if self.freeze_layers is not None and self.lora.rank:
            raise SettingsError(
                f"params.yaml encoder.train.freeze_layers = {self.freeze_layers} and train.lora.rank = {self.lora.rank}: LoRA "
                "freezes all weights already; set the one to null or the other to 0"
            )


@dataclass(frozen=True)
class EvaluateParams:
    """Section `evaluate`. `max_documents` and `max_queries`: 0 takes all; a sample is stated in the result.

    `champion` is the id of a release below `<home>/releases`, empty for none. `margin` is the largest loss against base or
    champion, `slice_margin` the same on a slice of at least `slice_min_queries` queries. On fewer than `min_queries` queries the
    verdict is undecided.

    `exact_names` queries at most are planted, half of them bare names, half inside a sentence; where the corpus has fewer than
    `exact_names_min` names, none. `exact_names_bare` and `exact_names_in_sentence` are the least shares of first hits.
    """

    seed: int
    look_at_test: bool
    max_documents: int
    max_queries: int
    bootstrap_samples: int
    confidence: float
    margin: float
    champion: str
    slice_margin: float
    slice_min_queries: int
    min_queries: int
    exact_names: int = 200
    exact_names_min: int = 100
    exact_names_bare: float = 0.99
    exact_names_in_sentence: float = 0.95

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise SettingsError(f"params.yaml encoder.evaluate.confidence = {self.confidence}: must be in [0.5, 1)")
        for name in ("margin", "slice_margin"):
            if getattr(self, name) < 0:
                raise SettingsError(f"params.yaml encoder.evaluate.{name} = {getattr(self, name)}: must not be negative")
        for name in ("slice_min_queries", "min_queries"):
            if getattr(self, name) < 2:
                raise SettingsError(f"params.yaml encoder.evaluate.{name} = {getattr(self, name)}: must be at least 2")
        if 0 < self.max_queries < self.min_queries:
            raise SettingsError(
                f"params.yaml encoder.evaluate.max_queries = {self.max_queries} is below encoder.evaluate.min_queries = "
                f"{self.min_queries}: no verdict could ever be decided"
            )
        if not 2 <= self.exact_names_min <= self.exact_names:
            raise SettingsError(
                f"params.yaml encoder.evaluate.exact_names_min = {self.exact_names_min}: must be at least 2, and at most "
                f"encoder.evaluate.exact_names = {self.exact_names}"
            )
        for name in ("exact_names_bare", "exact_names_in_sentence"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"params.yaml encoder.evaluate.{name} = {getattr(self, name)}: must be in [0, 1]")


@dataclass(frozen=True)
class SimilarityParams:
    """Section `prepare`, as far as the search for leaks needs it: the definition of a near-duplicate."""

    near_duplicate_similarity: float
    shingle_words: int
    hashes: int
    bands: int
