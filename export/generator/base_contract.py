"""The prompt contract of a base model, from its own files: tokenizer, config and chat template, each checked by the others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from export.generator.packaged import CONFIG_FILE
from export.generator.template_proof import prove_format, read_template
from twinline.contract.answers.specification import PROMPT_CONTRACT_FILE, AnswerContract, Budgets, make_answer_contract
from twinline.contract.encoder.specification import TOKENIZER_FILE
from twinline.contract.errors import MismatchError

GENERATION_CONFIG_FILE: Final = "generation_config.json"


def base_contract(folder: Path, languages: tuple[str, ...], budgets: Budgets | None = None) -> tuple[AnswerContract, bytes]:
    """Return the prompt contract of a model's folder, and the contract's own `tokenizer.json`.

    A folder of ours has its contract already. Another model's contract is made from its files and proved against its template.

    Args:
        languages: the generator's, for a model that states none in a contract.
        budgets: None for the built-in ones, with the model's own context where that is shorter.

    Raises:
        MismatchError: config, tokenizer and template do not fit each other, or a known chat format.
    """
    if (folder / PROMPT_CONTRACT_FILE).is_file():
        return AnswerContract.load(folder)
    config = _object(folder / CONFIG_FILE)
    # A model of several parts states its language model's facts by themselves.
    config = {**config, **config.get("text_config", {})}
    missing = [name for name in ("vocab_size", "max_position_embeddings") if not isinstance(config.get(name), int)]
    if missing:
        raise MismatchError(f"{folder / CONFIG_FILE} states no {', '.join(missing)}: choose a causal language model")
    context = config["max_position_embeddings"]
    generation = folder / GENERATION_CONFIG_FILE
    # Nothing else of the generation config counts, and it is not shipped: decoding settings are the contract's.
    sides = [config, *([_object(generation)] if generation.is_file() else [])]
    stops = tuple(stop for side in sides for stop in _ids(side.get("eos_token_id")))
    contract, tokenizer_json = make_answer_contract(
        (folder / TOKENIZER_FILE).read_bytes(),
        vocabulary=config["vocab_size"],
        languages=languages,
        config_stop_ids=stops,
        budgets=budgets or Budgets(context=min(context, Budgets().context)),
    )
    if contract.budgets.context > context:
        raise MismatchError(
            f"{folder / CONFIG_FILE}: the model reads {context} tokens, the budget's context is "
            f"{contract.budgets.context}: lower it"
        )
    prove_format(contract, tokenizer_json, read_template(folder), str(folder))
    return contract, tokenizer_json


def _ids(value: Any) -> Iterator[int]:
    yield from (int(each) for each in (value if isinstance(value, list) else [] if value is None else [value]))


def _object(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise MismatchError(f"{path} holds {type(value).__name__}, not a JSON object: download the model again")
    return value
