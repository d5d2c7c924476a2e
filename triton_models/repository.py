"""Write a release's models into a Triton model repository: beside, then renamed, so that no partial model can be loaded."""

import fcntl
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np

import twinline.contract as contract_package
from triton_models.names import STABLE_MODEL, Device, embed_model, encoder_model, tokenizer_model
from twinline.contract.encoder import tensors
from twinline.contract.encoder.golden import GOLDEN_FILE, GoldenVector, encode_vector, read_golden
from twinline.contract.encoder.specification import CONTRACT_FILE, TOKENIZER_FILE
from twinline.contract.errors import MismatchError
from twinline.contract.release.manifest import MANIFEST_FILE, Format, Manifest
from twinline.contract.release.served import check_served, write_served

_HERE: Final = Path(__file__).resolve().parent
_VERSION: Final = "1"
# Queries go before bulk work where both wait for the same model; a request without a priority is bulk work.
_PRIORITIES: Final = "priority_levels: 2 default_priority_level: 2"
# Per priority. Two cores answer this many queries in about a second; more would wait longer, so they are rejected at once.
MOST_WAITING: Final = 256
# The timeout of our clients. A later answer has no reader, and under load its computation delays the others.
_QUEUE_POLICY: Final = (
    f"default_queue_policy {{ timeout_action: REJECT default_timeout_microseconds: 30000000 max_queue_size: {MOST_WAITING} }}"
)
_GOLDEN_FOR_CLIENTS: Final = "question"
_SERVED_ROOMS: Final = ("documents", "encoder", "release", "sparse")


def write_models(release_folder: Path, repository: Path, device: Device = "cpu") -> tuple[str, ...]:
    """Write tokenizer, encoder and ensemble of a release; existing models are replaced, one rename each.

    Args:
        release_folder: as packaged; every file is hashed first.
        repository: Triton's model repository, made if it is missing.
        device: the device of the encoder.

    Returns:
        The names of the models, the ensemble last.

    Raises:
        MismatchError: a file of the release differs from its manifest.
    """
    manifest = Manifest.load(release_folder)
    manifest.verify_files(release_folder)
    golden = read_golden(release_folder)
    repository.mkdir(parents=True, exist_ok=True)
    names = (tokenizer_model(manifest.release), encoder_model(manifest.release), embed_model(manifest.release))
    with writing(repository) as staging:
        _write_tokenizer(staging / names[0], release_folder, manifest)
        _write_encoder(staging / names[1], release_folder, manifest, golden, device)
        _write_ensemble(staging / names[2], manifest, golden)
        write_served(dict(zip(("tokenizer", "encoder", "embed"), (staging / name for name in names), strict=True)))
        # The written files, not the read ones: a faulty disk is found before anything is renamed.
        check_served(staging / names[0], manifest)
        # The ensemble last: nothing loads the other models without it.
        for name in names:
            rename_in(staging / name, repository / name, staging / f"{name}.old")
    return names


def is_whole(release: str, repository: Path, device: Device | None = None) -> bool:
    """Return whether a repository holds a release's models, every file as published, for a device."""
    folder = repository / tokenizer_model(release)
    try:
        check_served(folder, Manifest.load(folder / _VERSION / "release"))
    except MismatchError:
        return False
    return device is None or _kind(device) in (repository / encoder_model(release) / "config.pbtxt").read_text()


def _kind(device: Device) -> str:
    return f"kind: KIND_{device.upper()}"


def point_stable_model(release: str, repository: Path) -> str:
    """Point the ensemble `embed` at a release in the repository; the server switches when it loads `embed` again.

    Raises:
        MismatchError: the release's models are missing.
    """
    folder = repository / tokenizer_model(release) / _VERSION / "release"
    manifest = Manifest.load(folder)
    target = repository / STABLE_MODEL
    (target / _VERSION).mkdir(parents=True, exist_ok=True)
    config = target / "config.pbtxt"
    # A file can be replaced in one step, a folder cannot; the config is the only file of an ensemble.
    with writing(repository) as staging:
        (staging / "config.pbtxt").write_text(_ensemble_config(STABLE_MODEL, manifest, read_golden(folder)))
        (staging / "config.pbtxt").replace(config)
    return STABLE_MODEL


def is_stable(release: str, repository: Path) -> bool:
    """Return whether `embed` points at a release, by its member models."""
    config = repository / STABLE_MODEL / "config.pbtxt"
    return config.is_file() and f'"{encoder_model(release)}"' in config.read_text()


def remove_models(release: str, repository: Path) -> bool:
    """Remove a release's models, ensemble first, after the server has unloaded them; return whether there were any."""
    names = (embed_model(release), encoder_model(release), tokenizer_model(release))
    there = [name for name in names if (repository / name).is_dir()]
    # Also where no model is left: an earlier call that was cut short may have left the renamed folders.
    if not repository.parent.is_dir():
        return False
    with writing(repository) as staging:
        for name in there:
            (repository / name).rename(staging / name)
    return bool(there)


def releases_in(repository: Path) -> list[str]:
    """Return the releases whose ensemble is in the repository."""
    prefix = embed_model("")
    return sorted(path.parent.name.removeprefix(prefix) for path in repository.glob(f"{prefix}*/config.pbtxt"))


def _write_tokenizer(folder: Path, release_folder: Path, manifest: Manifest) -> None:
    version = folder / _VERSION
    (version / "release").mkdir(parents=True)
    shutil.copyfile(_HERE / "encoder" / "tokenizer" / "model.py", version / "model.py")
    _write_contract(version / "twinline")
    for name in (MANIFEST_FILE, CONTRACT_FILE, TOKENIZER_FILE, GOLDEN_FILE):
        shutil.copyfile(release_folder / name, version / "release" / name)
    _write_config(folder, "tokenizer", manifest, name=folder.name)


def _write_contract(package: Path) -> None:
    """Write the rooms of the contract that the tokenizer model imports, into an otherwise empty package.

    The release carries its code: an upgrade of the platform does not change a served release.
    """
    source = Path(contract_package.__path__[0])
    target = package / "contract"
    target.mkdir(parents=True)
    (package / "__init__.py").touch()
    for path in source.glob("*.py"):
        shutil.copyfile(path, target / path.name)
    for room in _SERVED_ROOMS:
        shutil.copytree(source / room, target / room, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))


def _write_encoder(
    folder: Path, release_folder: Path, manifest: Manifest, golden: Sequence[GoldenVector], device: Device
) -> None:
    served = manifest.serving_format()
    source = release_folder / served.file
    # The format's whole folder, with an OpenVINO .bin or the external weights of a large ONNX file.
    shutil.copytree(source.parent, folder / _VERSION)
    warmup = folder / "warmup"
    warmup.mkdir()
    longest = max(golden, key=lambda entry: len(entry.token_ids))
    for length in manifest.serving.length_buckets:
        ids = np.resize(np.array(longest.token_ids, dtype=np.int64), length)
        (warmup / f"input_ids_{length}").write_bytes(ids.tobytes())
        (warmup / f"attention_mask_{length}").write_bytes(np.ones_like(ids).tobytes())
    _write_config(folder, "encoder", manifest, name=folder.name, model_file=source.name, device=device)


def _write_ensemble(folder: Path, manifest: Manifest, golden: Sequence[GoldenVector]) -> None:
    # Triton needs a version folder even if it is empty.
    (folder / _VERSION).mkdir(parents=True)
    (folder / "config.pbtxt").write_text(_ensemble_config(folder.name, manifest, golden))


def _ensemble_config(name: str, manifest: Manifest, golden: Sequence[GoldenVector]) -> str:
    return render_config("embed", manifest, name=name, golden=_golden_parameter(golden))


def _golden_parameter(golden: Sequence[GoldenVector]) -> str:
    """Return one golden text with its vector, for clients without the release's files."""
    chosen = next((entry for entry in golden if entry.name == _GOLDEN_FOR_CLIENTS), golden[0])
    value = {"name": chosen.name, "role": chosen.role, "text": chosen.text, "vector": encode_vector(chosen.vector)}
    return json.dumps(value)


def _write_config(folder: Path, template: str, manifest: Manifest, **values: str) -> None:
    (folder / "config.pbtxt").write_text(render_config(template, manifest, **values))


def render_config(template: str, manifest: Manifest, **values: str) -> str:
    """Return the `config.pbtxt` of a manifest by a template."""
    served: Format = manifest.serving_format()
    loaded = templates("encoder").get_template(f"{template}.pbtxt.j2")
    return loaded.render(manifest=manifest, format=served, tensors=tensors, queueing=f"{_PRIORITIES} {_QUEUE_POLICY}", **values)


def templates(kind: str) -> jinja2.Environment:
    """Return the templates of one kind of release; their filter `text` quotes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates" / kind),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (protobuf text, not HTML; the filter `text` quotes)
    )
    environment.filters["text"] = _protobuf_text
    return environment


def _protobuf_text(value: Any) -> str:
    """Return a quoted protobuf string; JSON's escapes are a subset of protobuf's once all is ASCII."""
    if not isinstance(value, str):
        raise MismatchError(f"config.pbtxt needs text where the manifest has {value!r}")
    return json.dumps(value)


@contextmanager
def writing(repository: Path) -> Iterator[Path]:
    """Give the current writer a new folder on the repository's file system, outside the models that Triton lists.

    Folders of killed writers are removed: the lock proves that no writer uses them.
    """
    with (repository.parent / f".{repository.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in repository.parent.glob(f".{repository.name}-*"):
            shutil.rmtree(left)
        staging = repository.parent / f".{repository.name}-{uuid.uuid4().hex[:8]}"
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging)


def rename_in(new: Path, target: Path, old: Path) -> None:
    """Put a new folder in the place of another, which is moved to `old`."""
    if target.is_dir():
        target.rename(old)
    new.rename(target)
