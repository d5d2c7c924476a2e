"""The served encoder without a server: contract's tokens, the release's own file, the settings of the embedded backend."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from bench.machine import cores
from export.encoder.runtimes import openvino_hint
from twinline.contract.encoder import tensors
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.specification import Contract, Role
from twinline.contract.encoder.tokens import TokenEncoder
from twinline.contract.errors import SettingsError
from twinline.contract.release.manifest import Manifest


@dataclass(frozen=True)
class InProcessEncoder:
    """Implements `twinline.contract.encoder.embedding.Embedder` over OpenVINO in this process; one caller at a time."""

    manifest: Manifest
    tokens: TokenEncoder
    request: Any

    @classmethod
    def load(cls, release: Path, served_format: str = "") -> Self:
        """Open a packaged release that serves an OpenVINO format.

        Args:
            release: its folder.
            served_format: another of its formats than the served one.

        Raises:
            SettingsError: it serves another format.
        """
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        manifest = Manifest.load(release)
        if served_format:
            manifest = replace(manifest, serving=replace(manifest.serving, format=served_format))
        served = manifest.serving_format()
        if served.backend != "openvino":
            raise SettingsError(f"release {manifest.release} serves {served.name}: this comparison knows OpenVINO formats only")
        options = {
            "INFERENCE_PRECISION_HINT": openvino_hint(served.precision),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(cores()),
            "ENABLE_CPU_PINNING": "NO",
        }
        request = openvino.Core().compile_model(release / served.file, "CPU", options).create_infer_request()
        contract, tokenizer_json = Contract.load(release)
        return cls(manifest, TokenEncoder(contract.vector, tokenizer_json), request)

    @property
    def space(self) -> str:
        """Return the release's space."""
        return self.manifest.space

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        """Return one vector a text; all texts are one batch, padded to a served length."""
        encoded = self.tokens.encode(texts, role)
        length = tensors.served_length(int(encoded.token_counts.max()), self.manifest.serving.length_buckets)
        ids, mask = encoded.padded(length, self.tokens.pad_id)
        found = self.request.infer({tensors.INPUT_IDS: ids, tensors.ATTENTION_MASK: mask}, share_inputs=True)
        vectors = np.array(found[tensors.SENTENCE_EMBEDDING], dtype=np.float32)
        return Embeddings(vectors, encoded.token_counts, encoded.truncated, self.space)
