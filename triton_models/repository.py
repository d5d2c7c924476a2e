"""Write a release's models into a Triton model repository: beside, then renamed in, so that no half model can be loaded."""

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
# Queries before bulk work, wherever both wait for the same model; who says nothing is bulk work.
_PRIORITIES: Final = "priority_levels: 2 default_priority_level: 2"
# Of each priority. Two cores answer so many queries in about a second: whoever comes later hears at once that it is too much.
MOST_WAITING: Final = 256
# As long as our clients wait. Nobody is left to read a later answer, and under load computing it delays those that count.
_QUEUE_POLICY: Final = (
    f"default_queue_policy {{ timeout_action: REJECT default_timeout_microseconds: 30000000 max_queue_size: {MOST_WAITING} }}"
)
_GOLDEN_FOR_CLIENTS: Final = "question"
_SERVED_ROOMS: Final = ("documents", "encoder", "release")


def write_models(release_folder: Path, repository: Path, device: Device = "cpu") -> tuple[str, ...]:
    """Write tokenizer, encoder and ensemble of a release; models already there are replaced, one rename each.

    Args:
        release_folder: as packaged; every file is hashed first.
        repository: Triton's model repository, made if need be.
        device: where the encoder runs.

    Returns:
        The names of the models, the ensemble last.

    Raises:
        MismatchError: when a file of the release is not what its manifest says.
    """
    manifest = Manifest.load(release_folder)
    manifest.verify_files(release_folder)
    golden = read_golden(release_folder)
    repository.mkdir(parents=True, exist_ok=True)
    names = (tokenizer_model(manifest.release), encoder_model(manifest.release), embed_model(manifest.release))
    with _writing(repository) as staging:
        _write_tokenizer(staging / names[0], release_folder, manifest)
        _write_encoder(staging / names[1], release_folder, manifest, golden, device)
        _write_ensemble(staging / names[2], manifest, golden)
        write_served(dict(zip(("tokenizer", "encoder", "embed"), (staging / name for name in names), strict=True)))
        # What was written, not what was read: a disk that lies is found before anything is renamed in.
        check_served(staging / names[0], manifest)
        # The ensemble last: what is there without it is loaded by nobody.
        for name in names:
            _rename_in(staging / name, repository / name, staging / f"{name}.old")
    return names


def is_whole(release: str, repository: Path, device: Device | None = None) -> bool:
    """Say whether a release's models are in a repository, every file as it was published, and to run on a device."""
    folder = repository / tokenizer_model(release)
    try:
        check_served(folder, Manifest.load(folder / _VERSION / "release"))
    except MismatchError:
        return False
    return device is None or _kind(device) in (repository / encoder_model(release) / "config.pbtxt").read_text()


def _kind(device: Device) -> str:
    return f"kind: KIND_{device.upper()}"


def point_stable_model(release: str, repository: Path) -> str:
    """Let the ensemble `embed` stand for a release whose models are in the repository; load it again to switch.

    Raises:
        MismatchError: when the release's models are not there.
    """
    folder = repository / tokenizer_model(release) / _VERSION / "release"
    manifest = Manifest.load(folder)
    target = repository / STABLE_MODEL
    (target / _VERSION).mkdir(parents=True, exist_ok=True)
    config = target / "config.pbtxt"
    # A file can be replaced in one step, a folder cannot; and the config is all that there is to an ensemble.
    with _writing(repository) as staging:
        (staging / "config.pbtxt").write_text(_ensemble_config(STABLE_MODEL, manifest, read_golden(folder)))
        (staging / "config.pbtxt").replace(config)
    return STABLE_MODEL


def is_stable(release: str, repository: Path) -> bool:
    """Say whether `embed` stands for a release, by the models that it is made of."""
    config = repository / STABLE_MODEL / "config.pbtxt"
    return config.is_file() and f'"{encoder_model(release)}"' in config.read_text()


def remove_models(release: str, repository: Path) -> bool:
    """Remove a release's models, ensemble first; return whether there were any. To be done after the server unloaded them."""
    names = (embed_model(release), encoder_model(release), tokenizer_model(release))
    there = [name for name in names if (repository / name).is_dir()]
    # Also where nothing is left to remove: of an earlier call that was cut short there may be what it had renamed away.
    if not repository.parent.is_dir():
        return False
    with _writing(repository) as staging:
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
    """Write the rooms of the contract that the tokenizer model imports, below a package that is otherwise empty.

    The release carries its code: an upgrade of the platform does not change what a served release does.
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
    # All of the format's folder: an OpenVINO .bin, or the external weights of a large ONNX file.
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
    # Triton wants a version folder even where there is nothing to put into it.
    (folder / _VERSION).mkdir(parents=True)
    (folder / "config.pbtxt").write_text(_ensemble_config(folder.name, manifest, golden))


def _ensemble_config(name: str, manifest: Manifest, golden: Sequence[GoldenVector]) -> str:
    return render_config("embed", manifest, name=name, golden=_golden_parameter(golden))


def _golden_parameter(golden: Sequence[GoldenVector]) -> str:
    """Return one golden text with its vector, for clients that have the server but not the release's files."""
    chosen = next((entry for entry in golden if entry.name == _GOLDEN_FOR_CLIENTS), golden[0])
    value = {"name": chosen.name, "role": chosen.role, "text": chosen.text, "vector": encode_vector(chosen.vector)}
    return json.dumps(value)


def _write_config(folder: Path, template: str, manifest: Manifest, **values: str) -> None:
    (folder / "config.pbtxt").write_text(render_config(template, manifest, **values))


def render_config(template: str, manifest: Manifest, **values: str) -> str:
    """Return the `config.pbtxt` that a template makes of a manifest."""
    served: Format = manifest.serving_format()
    loaded = _templates().get_template(f"{template}.pbtxt.j2")
    return loaded.render(manifest=manifest, format=served, tensors=tensors, queueing=f"{_PRIORITIES} {_QUEUE_POLICY}", **values)


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates" / "encoder"),
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
def _writing(repository: Path) -> Iterator[Path]:
    """Give a new folder on the repository's file system, but outside of what Triton lists, to the one who writes now.

    What an earlier writer left there, because it was killed, is removed: it holds the lock no more.
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


def _rename_in(new: Path, target: Path, old: Path) -> None:
    if target.is_dir():
        target.rename(old)
    new.rename(target)
