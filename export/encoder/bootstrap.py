"""Turn an untuned base model into an encoder folder, so that it can be released like a trained one."""

import json
import shutil
from pathlib import Path

from export.encoder.build import WEIGHTS_FILE
from twinline.clients.base_model import read_facts, resolve_base_model
from twinline.contract.encoder.encoder_record import TRAINING_FILE, encoder_identity
from twinline.contract.encoder.space import hash_safetensors
from twinline.contract.encoder.specification import ChunkerSettings, make_contract
from twinline.contract.errors import ContractError


def write_base_encoder(base_model: str, target: Path, chunker: ChunkerSettings) -> None:
    """Write the encoder folder of an untuned base model: its weights, and a contract from its own files.

    Args:
        base_model: a folder, `package:NAME` or a Hugging Face name.
        target: the folder to make.
        chunker: how documents will be cut.
    """
    source = resolve_base_model(base_model)
    facts = read_facts(source)
    contract, tokenizer_json = make_contract(
        (source / "tokenizer.json").read_bytes(),
        max_tokens=facts.max_tokens,
        dimension=facts.dimension,
        pooling=facts.pooling,
        query_prefix=facts.query_prefix,
        document_prefix=facts.document_prefix,
        chunker=chunker,
    )
    target.mkdir(parents=True, exist_ok=True)
    _write_weights(source, target)
    contract.save(target, tokenizer_json)
    identity = encoder_identity(target, contract, hash_safetensors(target / WEIGHTS_FILE))
    record = {"base_model": base_model, "steps": 0, **identity}
    (target / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n")


def _write_weights(source: Path, target: Path) -> None:
    files = sorted(source.glob("*.safetensors"))
    if [path.name for path in files] == [WEIGHTS_FILE]:
        # byte for byte, so that the space is that of the published weights
        shutil.copyfile(source / "config.json", target / "config.json")
        shutil.copyfile(files[0], target / WEIGHTS_FILE)
        return
    from export.encoder.reference import load_backbone

    load_backbone(source).save_pretrained(target, max_shard_size="1TB")
    if not (target / WEIGHTS_FILE).is_file():
        raise ContractError(f"{source}: its {len(files)} weight files could not be joined into one {WEIGHTS_FILE}")
