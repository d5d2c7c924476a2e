"""Documents that say the same are one hit, the others listed under it, newest first; nothing else changes in an answer."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.search.conftest import World
from twinline.contract.documents.sameness import Groups
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.search import grouping as grouping_module
from twinline.search.query import Question, answer, answer_from

PAGE = (
    "to roll back a release name it and wait until the store has switched then check that every search is answered by the "
    "earlier encoder and that nobody asks the newer one any more because its model is unloaded an hour later"
    " before going on read the report of its build and compare both lists of hits since most questions should find what they "
    "found yesterday then tell your colleagues"
)
NOON = 1_790_000_000_000


def keys(hits: Sequence[dict[str, Any]]) -> list[str]:
    return [hit["key"] for hit in hits]


def versions(world: World, count: int, text: str = PAGE, name: str = "page") -> None:
    for number in range(count):
        world.add("r1", f"{name}-{number}", text, title=f"Page, version {number}", at_ms=NOON + number)


def test_five_versions_of_a_page_are_one_hit_and_the_others_are_under_it_newest_first(world: World) -> None:
    versions(world, 5)
    hits = world.search("roll back a release")["hits"]
    assert len(hits) == 4
    first, *others = hits
    assert sorted(keys(others)) == ["cats", "dogs", "fish"]
    assert [hit["copies"] for hit in others] == [[], [], []]
    named = [first["key"], *keys(first["copies"])]
    assert sorted(named) == [f"page-{number}" for number in range(5)]
    assert keys(first["copies"]) == sorted(keys(first["copies"]), reverse=True)
    one = first["copies"][0]
    assert set(one) == {"source", "key", "title", "version", "point", "place"}
    number = int(one["key"].removeprefix("page-"))
    assert (one["source"], one["title"], one["version"]["number"]) == ("notes", f"Page, version {number}", 3)
    assert one["place"] == {"partition": 1, "offset": 42, "timestamp_ms": NOON + number}


def test_all_copies_are_shown_on_request(world: World) -> None:
    versions(world, 5)
    for answered in (
        world.search("roll back a release", group=False),
        world.client.get("/v1/search", params={"q": "roll back a release", "group": "false"}).json(),
    ):
        assert len(answered["hits"]) == 8
        assert all(hit["copies"] == [] for hit in answered["hits"])


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        (PAGE.replace("later", "afterwards"), True),  # one word
        (f"{PAGE} indeed", True),
        (f"{PAGE} since 3.11", False),  # a number
        (PAGE.replace("an hour later", "2 hours later"), False),
        (PAGE[: len(PAGE) // 2], False),  # a part of it
        ("a release that rolls back", False),
    ],
)
def test_what_is_nearly_the_same_is_a_copy_too(world: World, text: str, joined: bool) -> None:
    world.add("r1", "one", PAGE)
    world.add("r1", "other", text)
    hits = world.search("roll back a release and wait until the store has switched")["hits"]
    together = [hit for hit in hits if hit["copies"]]
    assert bool(together) is joined
    assert len(hits) == 4 + (not joined)


def test_a_document_under_another_is_no_hit_by_its_second_chunk(world: World) -> None:
    world.add("r1", "old", PAGE, "release notes of old")
    world.add("r1", "new", PAGE, "release notes of new")
    hits = world.search("roll back a release and wait")["hits"]
    assert sorted(keys(hits)) in (["cats", "dogs", "fish", "new"], ["cats", "dogs", "fish", "old"])


def test_the_answer_still_has_as_many_hits_as_were_asked_for(world: World) -> None:
    versions(world, 300)
    for limit in (1, 2, 4):
        hits = world.search("roll back a release", limit=limit)["hits"]
        assert len(hits) == limit
    assert len(world.search("roll back a release", limit=4)["hits"][0]["copies"]) == 299


@pytest.mark.parametrize("seed", range(12))
def test_a_longer_answer_begins_with_the_shorter_one(world: World, seed: int) -> None:
    drawn = random.Random(seed)
    words = PAGE.split()
    for number in range(40):
        kind = drawn.randrange(6)
        changed = [f"w{chr(97 + kind)}x", *words]
        for _ in range(drawn.randrange(4)):
            changed[drawn.randrange(len(changed))] = drawn.choice(["store", "quick", "later", "release", "index"])
        world.add("r1", f"{kind}-{number}", " ".join(changed), " ".join(reversed(changed[:9])), at_ms=NOON + drawn.randrange(3))
    longest = world.search("roll back a release quick", limit=50)["hits"]
    assert len(longest) < 43  # some were joined
    for limit in (1, 2, 3, 5, 8, 13, 21, 34):
        for _ in range(2):
            hits = world.search("roll back a release quick", limit=limit)["hits"]
            assert keys(hits) == keys(longest)[:limit]
            for short, long in zip(hits, longest, strict=False):
                # A longer answer reads further, so it may know of more copies.
                assert set(keys(short["copies"])) <= set(keys(long["copies"]))
    grouped = sorted(key for hit in longest for key in (hit["key"], *keys(hit["copies"])))
    assert grouped == sorted(keys(world.search("roll back a release quick", limit=50, group=False)["hits"]))


def test_a_corpus_of_copies_alone_ends_the_search_early_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping_module, "MOST_COPIES", 50)
    monkeypatch.setattr("twinline.search.query.MOST_COPIES", 50)
    versions(world, 400)
    answered = world.search("roll back a release", limit=10)
    assert len(answered["hits"]) == 1
    assert 50 <= len(answered["hits"][0]["copies"]) < 100
    assert "group" in answered["note"]
    assert "say what these say" in answered["note"]
    assert world.search("roll back a release", limit=1)["note"] == ""


def test_a_trial_shows_every_document_and_a_question_groups(world: World) -> None:
    from twinline.online.admin import TrialQuestion

    versions(world, 3)
    assert len(answer_from(world.served["r1"], TrialQuestion("roll back a release"), LOCAL_OPERATOR).hits) == 6
    assert len(answer(world.releases, Question("roll back a release"), LOCAL_OPERATOR).hits) == 4


def test_copies_of_other_tenants_are_not_listed(world: World) -> None:
    world.add("r1", "mine", PAGE, tenant="red")
    world.add("r1", "theirs", PAGE, tenant="blue")
    [hit] = world.search("roll back", tenant="red")["hits"]
    assert (hit["key"], hit["copies"]) == ("mine", [])


def test_the_decision_is_the_contracts_own(world: World) -> None:
    versions(world, 2)
    versions(world, 2, PAGE.replace("encoder", "model"), "model")
    groups: Groups[str] = Groups()
    said = {}
    for hit in world.search("roll back a release", group=False)["hits"]:
        told = (hit["lineage"]["content_hash"], hit["chunk"]["text"])
        said[hit["key"]] = groups.first_of(hit["key"], *told) or hit["key"]
    for hit in world.search("roll back a release")["hits"]:
        assert {said[key] for key in (hit["key"], *keys(hit["copies"]))} == {hit["key"]}
