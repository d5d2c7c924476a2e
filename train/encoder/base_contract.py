"""The contract of a run: the values of params.yaml, and for the rest those of the base model's own files."""

from __future__ import annotations

import json
from pathlib import Path

from train.encoder.params import ContractParams
from twinline.clients.base_model import read_facts
from twinline.contract.encoder.specification import (
    CONTRACT_FILE,
    TOKENIZER_FILE,
    ChunkerSettings,
    Contract,
    VectorContract,
    make_contract,
)
from twinline.contract.encoder.tokens import TokenEncoder
from twinline.contract.errors import SettingsError


def contract_for(folder: Path, params: ContractParams) -> tuple[Contract, bytes]:
    """Return the contract for the base model in `folder`, and the bytes of the contract's own tokenizer.json.

    Raises:
        SettingsError: params.yaml asks for more tokens than the base model has positions.
    """
    facts = read_facts(folder)
    max_tokens = params.max_tokens or facts.max_tokens
    positions = json.loads((folder / "config.json").read_bytes()).get("max_position_embeddings", max_tokens)
    if max_tokens > positions:
        raise SettingsError(
            f"params.yaml encoder.contract.max_tokens = {max_tokens}, but the base model in {folder} has {positions} positions: "
            f"lower it, or leave it null to take the model's own {facts.max_tokens}"
        )
    return make_contract(
        (folder / TOKENIZER_FILE).read_bytes(),
        max_tokens=max_tokens,
        dimension=facts.dimension,
        pooling=params.pooling or facts.pooling,
        query_prefix=facts.query_prefix if params.query_prefix is None else params.query_prefix,
        document_prefix=facts.document_prefix if params.document_prefix is None else params.document_prefix,
        chunker=ChunkerSettings(
            name=params.chunker,
            overlap_tokens=params.overlap_tokens,
            title=params.title,
            title_max_tokens=params.title_max_tokens,
        ),
    )


def training_tokens(contract: Contract, tokenizer_json: bytes, max_tokens: int | None) -> TokenEncoder:
    """Return the contract's tokenizer, cut at `max_tokens` where training reads less of each text than serving."""
    vector: VectorContract = contract.vector
    if max_tokens is None or max_tokens >= vector.max_tokens:
        return TokenEncoder(vector, tokenizer_json)
    shorter, shorter_json = make_contract(
        tokenizer_json,
        max_tokens=max_tokens,
        dimension=vector.dimension,
        pooling=vector.pooling,
        query_prefix=vector.query_prefix,
        document_prefix=vector.document_prefix,
        chunker=ChunkerSettings(overlap_tokens=0, title_max_tokens=0),
    )
    return TokenEncoder(shorter.vector, shorter_json)


def own_contract(folder: Path) -> tuple[Contract, bytes]:
    """Return the contract of the untuned base model in `folder`, from its own files alone."""
    if (folder / CONTRACT_FILE).is_file():
        return Contract.load(folder)
    facts = read_facts(folder)
    usual = ChunkerSettings()
    # A model with a lower token limit gets the usual shares of title and overlap.
    chunker = ChunkerSettings(
        overlap_tokens=min(usual.overlap_tokens, facts.max_tokens // 8),
        title_max_tokens=min(usual.title_max_tokens, facts.max_tokens // 4),
    )
    return make_contract(
        (folder / TOKENIZER_FILE).read_bytes(),
        max_tokens=facts.max_tokens,
        dimension=facts.dimension,
        pooling=facts.pooling,
        query_prefix=facts.query_prefix,
        document_prefix=facts.document_prefix,
        chunker=chunker,
    )
