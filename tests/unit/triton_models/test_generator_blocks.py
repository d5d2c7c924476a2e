"""Blocks of keys and values: none is lost, none is in two requests unless shared, and shared ones hold the same beginning."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.generator.engine.blocks import BlockPool, Taken, chain

SIZE = 4


def digests(prompt: list[int]) -> tuple[bytes, ...]:
    return chain(prompt, SIZE)[: (len(prompt) - 1) // SIZE]


def fill(pool: BlockPool, taken: Taken, prompt: list[int]) -> None:
    for block, digest in zip(taken.blocks, chain(prompt, SIZE), strict=False):
        pool.know(block, digest)


def test_equal_beginnings_share_full_blocks_and_the_last_id_is_never_among_them() -> None:
    pool = BlockPool(8, SIZE)
    prompt = list(range(8))
    first = pool.take(digests(prompt), 12)
    assert first is not None
    assert (first.cached, len(first.blocks)) == (0, 3)
    fill(pool, first, prompt)
    second = pool.take(digests(prompt), 12)
    assert second is not None
    assert second.cached == 1
    assert second.blocks[0] == first.blocks[0]
    assert not set(second.blocks[1:]) & set(first.blocks)
    assert pool.holders(first.blocks[0]) == 2


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 9], 1),
        ([1, 2, 3, 4, 5], [1, 2, 3, 9, 5], 0),
        # the second block alone is equal: its keys and values depend on the first
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], [4, 3, 2, 1, 5, 6, 7, 8, 9], 0),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1, 1], 2),
        ([1, 2, 3], [1, 2, 3], 0),
        ([1, 2, 3, 4], [1, 2, 3, 4], 0),
        ([1, 2, 3, 4], [1, 2, 3, 4, 5], 1),
        # shifted by one id
        ([1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 6, 7, 8], 0),
        ([1, 2, 3, 4, 5], [258, 2, 3, 4, 5], 0),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0], 1),
    ],
)
def test_only_the_same_ids_from_the_start_are_shared(first: list[int], second: list[int], shared: int) -> None:
    pool = BlockPool(16, SIZE)
    taken = pool.take(digests(first), len(first))
    assert taken is not None
    fill(pool, taken, first)
    again = pool.take(digests(second), len(second))
    assert again is not None
    assert again.cached == shared


def test_too_few_blocks_take_nothing() -> None:
    pool = BlockPool(3, SIZE)
    held = pool.take((), 8)
    assert held is not None
    assert pool.take((), 8) is None
    assert pool.in_use == 2
    pool.give_back(held)
    assert pool.in_use == 0
    assert pool.take((), 12) is not None


def test_kept_blocks_that_are_reused_do_not_count_as_free() -> None:
    pool = BlockPool(3, SIZE)
    prompt = list(range(9))
    taken = pool.take(digests(prompt), 12)
    assert taken is not None
    fill(pool, taken, prompt)
    pool.give_back(taken)
    assert pool.available == 3
    # two of the three are its own beginning, so that one is left for ten more ids
    assert pool.take(digests(prompt), 20) is None
    assert pool.available == 3


def test_the_least_recently_used_beginning_goes_first_and_its_end_before_its_start() -> None:
    pool = BlockPool(4, SIZE)
    old, new = [1] * 9, [2] * 9
    for prompt in (old, new):
        taken = pool.take(digests(prompt), 8)
        assert taken is not None
        fill(pool, taken, prompt)
        pool.give_back(taken)
    assert pool.take((), SIZE) is not None
    found = [pool.take(digests(old)[:1], SIZE), pool.take(digests(new), 2 * SIZE)]
    assert [taken and taken.cached for taken in found] == [1, 2]
    assert pool.take((), SIZE) is None


def test_a_pool_that_does_not_share_keeps_nothing() -> None:
    pool = BlockPool(4, SIZE, shares=False)
    prompt = list(range(9))
    taken = pool.take(digests(prompt), 12)
    assert taken is not None
    fill(pool, taken, prompt)
    pool.give_back(taken)
    again = pool.take(digests(prompt), 12)
    assert again is not None
    assert again.cached == 0


def test_what_was_evicted_is_not_found_again() -> None:
    pool = BlockPool(2, SIZE)
    old, new = [1] * 9, [2] * 9
    for prompt in (old, new):
        taken = pool.take(digests(prompt), 8)
        assert taken is not None
        assert taken.cached == 0
        fill(pool, taken, prompt)
        pool.give_back(taken)
    again = pool.take(digests(old), 8)
    assert again is not None
    assert again.cached == 0


PROMPTS = st.tuples(st.integers(0, 3), st.integers(1, 14)).map(lambda drawn: [drawn[0]] * drawn[1])


@settings(deadline=None)
@given(st.lists(st.tuples(PROMPTS, st.integers(0, 9), st.booleans()), max_size=40))
def test_no_block_is_lost_nor_in_two_requests_unless_shared(acts: list[tuple[list[int], int, bool]]) -> None:
    pool = BlockPool(8, SIZE)
    held: list[tuple[Taken, list[int]]] = []
    # what each block's content stands for, kept apart from the pool
    content: dict[int, list[int]] = {}
    for prompt, answer, ends in acts:
        if ends and held:
            taken, _ = held.pop(len(held) // 2)
            pool.give_back(taken)
            continue
        found = pool.take(digests(prompt), len(prompt) + answer)
        if found is None:
            continue
        assert len(set(found.blocks)) == len(found.blocks) == pool.needed(len(prompt) + answer)
        for index, block in enumerate(found.blocks):
            if index < found.cached:
                assert content[block] == prompt[: (index + 1) * SIZE]
            else:
                assert all(block not in taken.blocks for taken, _ in held)
                content[block] = prompt[: (index + 1) * SIZE]
        fill(pool, found, prompt)
        held.append((found, prompt))
        assert pool.in_use == len({block for taken, _ in held for block in taken.blocks})
    for taken, _ in held:
        pool.give_back(taken)
    assert (pool.in_use, pool.available) == (0, 8)


def test_a_digest_stands_for_its_block_and_all_before_it() -> None:
    found = chain([1, 2, 3, 4, 5, 6, 7, 8, 9], SIZE)
    assert len(found) == 2
    assert found == chain([1, 2, 3, 4, 5, 6, 7, 8], SIZE)
    assert chain([5, 6, 7, 8], SIZE)[0] != found[1]
    assert all(one != other for one, other in pairwise(chain([0] * 40, SIZE)))
