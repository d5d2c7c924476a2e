"""The next token of a row: greedy or seeded, under a mask, with both log-probabilities."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from triton_models.generator.engine.requests import Decoding
from triton_models.generator.engine.sampler import Sampler
from twinline.contract.errors import ContractError, SettingsError

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32))


def test_greedy_takes_the_likeliest_and_the_lowest_id_where_two_are_equal() -> None:
    greedy = Sampler(Decoding(1))
    assert greedy.choose(LOGITS, None, is_first=True).id == 1
    assert greedy.choose(np.array([0, 5, 5, 5], np.float32), None, is_first=True).id == 1


def test_both_log_probabilities_are_those_of_the_two_sets() -> None:
    allowed = np.array([True, False, True, False])
    token = Sampler(Decoding(1)).choose(LOGITS, allowed, is_first=True)
    assert token.id == 2
    assert math.exp(token.log_probability) == pytest.approx(0.2, abs=1e-6)
    assert math.exp(token.masked_log_probability) == pytest.approx(2 / 3, abs=1e-6)


def test_without_a_mask_both_are_one() -> None:
    token = Sampler(Decoding(1)).choose(LOGITS, None, is_first=False)
    assert token.log_probability == token.masked_log_probability


def test_the_first_step_tells_the_log_probability_of_given_ids_mask_or_not() -> None:
    sampler = Sampler(Decoding(2, first_ids=(3, 0)))
    first = sampler.choose(LOGITS, np.array([True, False, False, False]), is_first=True)
    assert np.exp(first.first_log_probabilities) == pytest.approx([0.3, 0.1], abs=1e-6)
    assert sampler.choose(LOGITS, None, is_first=False).first_log_probabilities == ()


@settings(deadline=None)
@given(
    arrays.arrays(np.float32, 12, elements=st.floats(-30, 30, width=32)),
    arrays.arrays(np.bool_, 12),
    st.floats(0, 2),
    st.floats(0.01, 1),
    st.integers(0, 9),
)
def test_whatever_is_drawn_is_allowed_and_likelier_under_the_mask(
    logits: np.ndarray, allowed: np.ndarray, temperature: float, top_p: float, seed: int
) -> None:
    allowed[seed] = True
    sampler = Sampler(Decoding(1, temperature=temperature, top_p=top_p, seed=seed))
    token = sampler.choose(logits, allowed, is_first=True)
    assert allowed[token.id]
    assert token.log_probability <= token.masked_log_probability + 1e-4
    assert token.masked_log_probability <= 1e-4
    expected = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    assert token.log_probability == pytest.approx(expected[token.id], abs=1e-4)


def test_the_same_seed_draws_the_same_and_another_seed_others() -> None:
    def drawn(seed: int) -> list[int]:
        sampler = Sampler(Decoding(1, temperature=1.0, seed=seed))
        return [sampler.choose(LOGITS, None, is_first=False).id for _ in range(40)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_draws_follow_the_probabilities_and_the_temperature() -> None:
    def shares(temperature: float) -> list[float]:
        sampler = Sampler(Decoding(1, temperature=temperature, seed=1))
        counts = Counter(sampler.choose(LOGITS, None, is_first=False).id for _ in range(4000))
        return [counts[one] / 4000 for one in range(4)]

    assert shares(1.0) == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=0.03)
    halved = np.array([0.1, 0.4, 0.2, 0.3]) ** 2
    assert shares(0.5) == pytest.approx(list(halved / halved.sum()), abs=0.03)


@pytest.mark.parametrize(
    ("top_p", "possible"), [(0.01, {1}), (0.39, {1}), (0.5, {1, 3}), (0.69, {1, 3}), (0.85, {1, 2, 3}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_draws_from_the_likeliest_whose_sum_reaches_it(top_p: float, possible: set[int]) -> None:
    sampler = Sampler(Decoding(1, temperature=1.0, top_p=top_p, seed=1))
    assert {sampler.choose(LOGITS, None, is_first=False).id for _ in range(600)} == possible


@pytest.mark.parametrize(("top_k", "possible"), [(0, {0, 1, 2, 3}), (1, {1}), (2, {1, 3}), (3, {1, 2, 3}), (9, {0, 1, 2, 3})])
def test_top_k_draws_from_so_many_of_the_likeliest(top_k: int, possible: set[int]) -> None:
    sampler = Sampler(Decoding(1, temperature=1.0, top_k=top_k, seed=1))
    assert {sampler.choose(LOGITS, None, is_first=False).id for _ in range(600)} == possible


@pytest.mark.parametrize(
    ("logits", "allowed", "said"),
    [
        (np.array([1, math.nan, 2], np.float32), None, "sum is nan"),
        (np.array([1, math.inf, 2], np.float32), None, "sum is inf"),
        (np.full(3, -math.inf, np.float32), None, "sum is -inf"),
        (np.ones(3, np.float32), np.zeros(3, np.bool_), "allows no token"),
        (np.ones(3, np.float32), np.ones(4, np.bool_), "mask is bool of shape"),
        (np.ones(3, np.float32), np.ones(3, np.int8), "mask is int8"),
        (np.ones(3, np.float32), np.ones((1, 3), np.bool_), r"\(1, 3\)"),
        (np.array([1, -math.inf, 2], np.float32), np.array([False, True, False]), "for impossible"),
    ],
)
def test_what_cannot_be_chosen_from_is_an_error_of_the_request(logits: np.ndarray, allowed: np.ndarray | None, said: str) -> None:
    for temperature in (0.0, 1.0):
        with pytest.raises(ContractError, match=said):
            Sampler(Decoding(1, temperature=temperature)).choose(logits, allowed, is_first=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"top_p": -1.0},
        {"top_k": -1},
        {"seed": -1},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Decoding(**{"max_tokens": 1, **wrong})  # type: ignore[arg-type]
