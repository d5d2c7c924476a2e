"""Faults in Triton's model repository: files exchanged or edited after publishing, and models published by wrong code."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from proofs.skew.faults import Fault, Plant, all_of, bit_flipped, changed, fields_set, file_holds, folder_holds, replaced_text
from proofs.skew.system import System
from triton_models.names import STABLE_MODEL
from triton_models.repository import point_stable_model
from twinline.contract.release.served import write_served

_LOAD: Final = ("triton load",)
_TRITON: Final = "Triton's model repository"
_BACKEND: Final = "Triton's backend"
_PARTS: Final = ("tokenizer", "encoder", "embed")
_TOKENS: Final = "1/twinline/contract/encoder/tokens.py"
_MODEL: Final = "1/model.py"

# Wrong code for the tokenizer model: file, old text and new text.
_PREFIX_TWICE: Final = (_TOKENS, "[prefix + text[", "[prefix + prefix + text[")
_PADDING_LEFT: Final = (
    _TOKENS,
    "input_ids[row, : len(ids)] = ids\n            attention_mask[row, : len(ids)] = 1",
    "input_ids[row, length - len(ids) :] = ids\n            attention_mask[row, length - len(ids) :] = 1",
)
_MASK_OF_ONES: Final = (
    _MODEL, "pb_utils.Tensor(tensors.ATTENTION_MASK, attention_mask)",
    "pb_utils.Tensor(tensors.ATTENTION_MASK, np.ones_like(attention_mask))",
)  # fmt: skip
_ONE_ROLE: Final = (_MODEL, "encoded = self._encode(texts, roles)", "encoded = self._encode(texts, ['document'] * len(texts))")
_CUT_AT_64: Final = (
    _MODEL, "encoded = self._encode(texts, roles)",
    "encoded = self._encode([' '.join(text.split(' ')[:64]) for text in texts], roles)",
)  # fmt: skip
_CUT_FLAG: Final = (_MODEL, "encoded.truncated[:, None]", "np.zeros_like(encoded.truncated)[:, None]")
_OTHER_SPACE: Final = (_MODEL, "self._space = manifest.space.encode()", "self._space = b'0' * 64")


def _edit(part: str, name: str, change: Callable[[bytes], bytes]) -> Plant:
    return lambda system: changed(system.model(part) / name, change)


def _files_of_b(part: str, names: tuple[str, ...]) -> Plant:
    return all_of(*(_file_of_b(part, name) for name in names))


def _file_of_b(part: str, name: str) -> Plant:
    return lambda system: file_holds(system.model(part) / name, (system.model(part, system.b) / name).read_bytes())


def _pointing_at_b(*parts: str) -> Plant:
    def plant(system: System) -> Any:
        content = (system.model("embed") / "config.pbtxt").read_bytes()
        for part in parts:
            content = replaced_text(system.model(part).name, system.model(part, system.b).name)(content)
        return file_holds(system.model("embed") / "config.pbtxt", content)

    return plant


@contextmanager
def _stale_stable_model(system: System) -> Iterator[None]:
    folder = system.settings.model_repository / STABLE_MODEL
    with folder_holds(folder, folder, system.scratch):
        point_stable_model(system.b.release, system.settings.model_repository)
        yield


@contextmanager
def _stable_model_on_b(system: System) -> Iterator[None]:
    """Change only the models behind the name `embed` in its config."""
    config = system.settings.model_repository / STABLE_MODEL / "config.pbtxt"
    with changed(config, replaced_text(f"_{system.a.release}", f"_{system.b.release}")):
        yield


def _published(change: Mapping[str, tuple[str, str, str]]) -> Plant:
    """Return a planting of models published by wrong code: the record beside them agrees."""

    @contextmanager
    def plant(system: System) -> Iterator[None]:
        with ExitStack() as planted:
            for part, (name, old, new) in change.items():
                planted.enter_context(changed(system.model(part) / name, replaced_text(old, new)))
            record = system.model("tokenizer") / "1" / "served.json"
            planted.enter_context(file_holds(record, record.read_bytes()))
            write_served({part: system.model(part) for part in _PARTS})
            yield

    return plant


def _stored_release_of_b(system: System) -> Any:
    folder = system.model("tokenizer") / "1" / "release"
    return folder_holds(folder, system.model("tokenizer", system.b) / "1" / "release", system.scratch)


def _all_of_b(system: System) -> Any:
    """Plant all of B's models under the names of A, with the names in the configs changed as well."""
    plants = [_folder_of_b(part) for part in _PARTS]
    return all_of(*plants)(system)


def _folder_of_b(part: str) -> Plant:
    @contextmanager
    def plant(system: System) -> Iterator[None]:
        with folder_holds(system.model(part), system.model(part, system.b), system.scratch):
            config = system.model(part) / "config.pbtxt"
            config.write_bytes(replaced_text(f"_{system.b.release}", f"_{system.a.release}")(config.read_bytes()))
            yield

    return plant


_FP32: Final = 'key: "precision" value: { string_value: "fp32"'
_BF16: Final = 'key: "precision" value: { string_value: "bf16"'


def _no_bf16() -> str:
    # Imported here, so that choosing faults does not wait for it.
    import openvino

    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "" if "BF16" in able else f"this CPU computes {', '.join(able)}: asked for bf16, OpenVINO goes on in fp32"


def _backend(old: str, new: str) -> Plant:
    """Return a planting of an edited copy of A's backend in the running server's backend folder."""

    @contextmanager
    def plant(system: System) -> Iterator[None]:
        name = system.a.serving_format().backend
        link = system.settings.home / "triton" / "backends" / name
        source = link.resolve()
        link.unlink()
        try:
            shutil.copytree(source, link)
            # The backends' common file lies beside them.
            shutil.copyfile(source.parent / "merging.py", link.parent / "merging.py")
            code = link / "model.py"
            with changed(code, replaced_text(old, new)):
                yield
        finally:
            shutil.rmtree(link)
            (link.parent / "merging.py").unlink()
            link.symlink_to(source)

    return plant


FAULTS: Final = (
    Fault("encoder_of_b", "encoder_A serves the OpenVINO files of B", _TRITON, _LOAD,
          _files_of_b("encoder", ("1/model.xml", "1/model.bin")), short=True),
    Fault("one_weight_served", "one weight of encoder_A's OpenVINO file is changed after publishing", _TRITON, _LOAD,
          _edit("encoder", "1/model.bin", bit_flipped)),
    Fault("ensemble_of_b", "embed_A points at the tokenizer and the encoder of B", _TRITON, (*_LOAD, "client"),
          _pointing_at_b("tokenizer", "encoder")),
    Fault("ensemble_mixed", "embed_A points at its own tokenizer and at the encoder of B", _TRITON, (*_LOAD, "client"),
          _pointing_at_b("encoder")),
    Fault("stable_name_stale", "the name `embed` still stands for B while A is active", _TRITON, ("triton embed",),
          _stale_stable_model, short=True),
    Fault("stable_name_mixed", "the name `embed` says A and has the models of B behind it", _TRITON, ("triton embed",),
          _stable_model_on_b),
    Fault("all_models_of_b", "tokenizer, encoder and ensemble of B stand under the names of A", _TRITON, (*_LOAD, "client"),
          _all_of_b),
    Fault("tokenizer_release_of_b", "the release files inside tokenizer_A are B's", _TRITON, (*_LOAD, "client"),
          _stored_release_of_b),
    Fault("served_prefix_twice", "the tokenizer model's code puts the role prefix twice", _TRITON, _LOAD,
          _edit("tokenizer", _TOKENS, replaced_text(*_PREFIX_TWICE[1:]))),
    Fault("served_lower_casing", "tokenizer.json inside the tokenizer model lower-cases no more", _TRITON, _LOAD,
          _edit("tokenizer", "1/release/tokenizer.json", fields_set({"normalizer.lowercase": False}))),
    Fault("served_contract", "contract.json inside the tokenizer model has another document prefix", _TRITON, _LOAD,
          _edit("tokenizer", "1/release/contract.json", fields_set({"vector.document_prefix": "text: "}))),
    Fault("served_golden", "golden.json inside the tokenizer model is B's", _TRITON, _LOAD,
          _file_of_b("tokenizer", "1/release/golden.json")),
    Fault("served_padding_left", "the tokenizer model's code pads on the left", _TRITON, _LOAD,
          _edit("tokenizer", _TOKENS, replaced_text(*_PADDING_LEFT[1:]))),
    Fault("served_mask_of_ones", "the tokenizer model's code gives an attention mask of ones", _TRITON, _LOAD,
          _edit("tokenizer", _MODEL, replaced_text(*_MASK_OF_ONES[1:]))),
    Fault("config_space", "the space in embed_A's config is edited", _TRITON, _LOAD,
          lambda system: changed(system.model("embed") / "config.pbtxt", replaced_text(system.a.space, system.b.space))),
    Fault("config_precision", "the encoder's config asks the backend for bf16", _TRITON, _LOAD,
          _edit("encoder", "config.pbtxt", replaced_text(_FP32, _BF16))),
    Fault("config_precision_published", "the encoder was published to compute in bf16, its record agrees", _TRITON, _LOAD,
          _published({"encoder": ("config.pbtxt", _FP32, _BF16)})),
    Fault("published_prefix_twice", "wrong code was published: the role prefix is put twice", _TRITON, _LOAD,
          _published({"tokenizer": _PREFIX_TWICE})),
    Fault("published_padding_left", "wrong code was published: padding on the left", _TRITON, ("client",),
          _published({"tokenizer": _PADDING_LEFT}), short=True),
    Fault("published_mask_of_ones", "wrong code was published: the attention mask is all ones", _TRITON, ("client",),
          _published({"tokenizer": _MASK_OF_ONES})),
    Fault("published_one_role", "wrong code was published: every text is taken for a document", _TRITON,
          ("client",), _published({"tokenizer": _ONE_ROLE})),
    Fault("published_other_space", "wrong code was published: answers name another space", _TRITON, ("client",),
          _published({"tokenizer": _OTHER_SPACE})),
    Fault("published_cut", "wrong code was published: texts are cut at 64 words", _TRITON, ("triton tokenizer",),
          _published({"tokenizer": _CUT_AT_64})),
    Fault("published_cut_flag", "wrong code was published: what was cut off is not said", _TRITON, ("triton grpc",),
          _published({"tokenizer": _CUT_FLAG})),
    Fault("backend_bf16", "the server's backend computes in bf16 whatever it is asked for", _BACKEND, ("client",),
          _backend('"fp32": "f32"', '"fp32": "bf16"'), impossible=_no_bf16),
    Fault("backend_mask_ignored", "the server's backend hands the model a mask of ones", _BACKEND, ("client",),
          _backend("self._request.infer(dict(tensors)", "self._request.infer({**tensors, 'attention_mask': "
                   "np.ones_like(tensors['attention_mask'])}")),
    Fault("backend_rows_mixed", "the server's backend gives the texts of a batch each other's vectors", _BACKEND,
          ("triton grpc",), _backend("[self._names.output])", "[self._names.output])[::-1]")),
)  # fmt: skip
