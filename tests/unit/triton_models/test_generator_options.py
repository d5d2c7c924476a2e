"""How a generator is compiled: both precisions are always stated, and bf16 only where it does not end the process."""

from typing import Any

import pytest

from triton_models.generator.engine import model
from triton_models.generator.engine.model import ModelSettings, Precision
from twinline.contract.errors import SettingsError


class Core:
    def __init__(self, able: list[str]) -> None:
        self._able = able

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self._able


@pytest.mark.parametrize(
    ("precision", "able", "amx", "cores", "asked", "hint", "threads"),
    [
        ("fp32", ["BF16"], True, 1, 0, "f32", 1),
        ("fp32", ["BF16"], True, 4, 1, "f32", 1),
        ("fp32", [], False, 4, 0, "f32", 4),
        ("bf16", ["BF16"], False, 1, 0, "bf16", 1),
        ("bf16", ["BF16"], False, 4, 1, "bf16", 1),
        ("bf16", ["BF16"], True, 4, 0, "bf16", 4),
        # one thread would end the process
        ("bf16", ["BF16"], True, 4, 1, "bf16", 2),
        ("int8", ["BF16"], True, 2, 1, "bf16", 2),
        ("bf16", ["BF16"], True, 1, 0, "f32", 1),
        ("int8", ["BF16"], True, 1, 2, "f32", 2),
        # it would be emulated
        ("bf16", [], False, 4, 0, "f32", 4),
        ("int8", [], False, 4, 3, "f32", 3),
    ],
)
def test_the_options_follow_from_precision_and_machine(
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    able: list[str],
    amx: bool,
    cores: int,
    asked: int,
    hint: str,
    threads: int,
) -> None:
    monkeypatch.setattr(model, "_cores", lambda: cores)
    monkeypatch.setattr(model, "_has_amx", lambda: amx)
    options = model._options(Core(able), ModelSettings(precision, threads=asked))
    assert (options["INFERENCE_PRECISION_HINT"], options["KV_CACHE_PRECISION"]) == (hint, hint)
    assert options["INFERENCE_NUM_THREADS"] == str(threads)


@pytest.mark.parametrize("wrong", [{"precision": "fp16"}, {"precision": ""}, {"blocks": 0}, {"blocks": -4}, {"threads": -1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        ModelSettings(**wrong)
