"""Triton model `tokenizer_<release>`: TEXT and ROLE to padded token ids, by the very code of the contract.

Beside this file lie the contract's package and the release's own files. They and all other served files, the encoder's and the
configs, are hashed before the first answer.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any, cast

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE))

import numpy as np
import triton_python_backend_utils as pb_utils
from twinline.contract.encoder import tensors
from twinline.contract.errors import ContractError, MismatchError
from twinline.contract.encoder.limits import MAX_ENCODED_CHARS
from twinline.contract.encoder.golden import check_tokens, read_golden
from twinline.contract.release.manifest import Fingerprints, Manifest
from twinline.contract.encoder.selfcheck import check_rules_in_code
from twinline.contract.release.served import check_served
from twinline.contract.encoder.specification import ROLES, Contract, Role
from twinline.contract.encoder.tokens import Encoded, TokenEncoder

_RELEASE = _HERE / "release"


class TritonPythonModel:
    """Tokenise, apply role prefixes, cut at the limit, pad to a served length."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the release's contract; a file that differs from its published form stops the model from loading."""
        manifest = Manifest.load(_RELEASE)
        _check_files(manifest)
        check_served(Path(args["model_repository"]), manifest)
        check_rules_in_code()
        contract, tokenizer_json = Contract.load(_RELEASE)
        if Fingerprints.of(contract) != manifest.fingerprints:
            raise MismatchError(
                f"release {manifest.release}: its contract has fingerprint {contract.fingerprint}, its manifest names "
                f"{manifest.fingerprints.contract}: publish the release again"
            )
        self._encoder = TokenEncoder(contract.vector, tokenizer_json)
        check_tokens(read_golden(_RELEASE), self._encoder, f"release {manifest.release} in Triton")
        self._buckets = manifest.serving.length_buckets
        self._space = manifest.space.encode()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request; a bad request gets an error of its own.

        All texts go through the tokenizer in one call, which spreads them over the cores; each request is padded alone.
        """
        responses: list[Any] = [None] * len(requests)
        texts: list[str] = []
        roles: list[Role] = []
        rows: list[tuple[int, int, int]] = []
        for place, request in enumerate(requests):
            try:
                own_texts, own_roles = _read(request)
            except ContractError as exc:
                responses[place] = pb_utils.InferenceResponse(
                    error=pb_utils.TritonError(str(exc), pb_utils.TritonError.INVALID_ARG)
                )
                continue
            rows.append((place, len(texts), len(texts) + len(own_texts)))
            texts += own_texts
            roles += own_roles
        if rows:
            encoded = self._encode(texts, roles)
            for place, start, end in rows:
                responses[place] = self._outputs(_part(encoded, start, end))
        return responses

    def _outputs(self, encoded: Encoded) -> Any:
        length = tensors.served_length(int(encoded.token_counts.max()), self._buckets)
        input_ids, attention_mask = encoded.padded(length, self._encoder.pad_id)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(tensors.INPUT_IDS, input_ids),
                pb_utils.Tensor(tensors.ATTENTION_MASK, attention_mask),
                pb_utils.Tensor(tensors.TOKEN_COUNT, encoded.token_counts[:, None]),
                pb_utils.Tensor(tensors.TRUNCATED, encoded.truncated[:, None]),
                pb_utils.Tensor(tensors.SPACE, np.full((len(encoded.token_ids), 1), self._space, dtype=np.object_)),
            ]
        )

    def _encode(self, texts: list[str], roles: list[Role]) -> Encoded:
        """Encode texts whose roles may differ, in their order."""
        if len(set(roles)) == 1:
            return self._encoder.encode(texts, roles[0])
        token_ids: list[list[int]] = [[] for _ in texts]
        token_counts, truncated = np.zeros(len(texts), np.int32), np.zeros(len(texts), np.bool_)
        for role in set(roles):
            rows = [row for row, own in enumerate(roles) if own == role]
            encoded = self._encoder.encode([texts[row] for row in rows], role)
            token_counts[rows], truncated[rows] = encoded.token_counts, encoded.truncated
            for row, ids in zip(rows, encoded.token_ids, strict=True):
                token_ids[row] = ids
        return Encoded(token_ids, token_counts, truncated)


def _part(encoded: Encoded, start: int, end: int) -> Encoded:
    return Encoded(encoded.token_ids[start:end], encoded.token_counts[start:end], encoded.truncated[start:end])


def _read(request: Any) -> tuple[list[str], list[Role]]:
    texts = _strings(request, tensors.TEXT)
    longest = max(map(len, texts), default=0)
    if longest > MAX_ENCODED_CHARS:
        # Queries of others would wait while one text is tokenised.
        raise ContractError(
            f"{tensors.TEXT} has {longest} characters, the limit is {MAX_ENCODED_CHARS}: cut it, as nothing behind them is read"
        )
    roles = _strings(request, tensors.ROLE)
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise ContractError(f"{tensors.ROLE} is {unknown[0]!r}, must be one of {', '.join(ROLES)}")
    return texts, [cast(Role, role) for role in roles]


def _strings(request: Any, name: str) -> list[str]:
    values = pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    except UnicodeDecodeError as exc:
        raise ContractError(f"{name} is not UTF-8 at byte {exc.start}: send text as UTF-8") from exc


def _check_files(manifest: Manifest) -> None:
    for path in sorted(_RELEASE.iterdir()):
        expected = manifest.files.get(path.name)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.name != "manifest.json" and found != expected:
            raise MismatchError(
                f"release {manifest.release}: {path.name} has SHA-256 {found}, the manifest says {expected}: it was "
                "edited after packaging; publish the release again"
            )
