"""A trial answers from one collection under other search settings, and changes nothing for anybody else."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.search.test_online_service import Online
from twinline.clients.store.edge_collection import _approximate
from twinline.clients.store.protocol import Query
from twinline.clients.store.qdrant_collection import _search_params
from twinline.contract.errors import ContractError, SettingsError
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.sparse.fusion import Fusion
from twinline.online.admin import TrialQuestion

NAME = "documents_r1"


@pytest.fixture
def online(world: Any) -> Iterator[Online]:
    online = Online(world)
    online.service.tend()
    yield online
    online.service.stop(2)


@pytest.mark.parametrize(
    ("fields", "fusion", "ef_search"),
    [
        ({}, Fusion("scores", dense_percent=30), None),
        ({"dense_percent": 70}, Fusion("scores", dense_percent=70), None),
        ({"dense_percent": 0}, Fusion("scores", dense_percent=0), None),
        ({"rule": "ranks"}, Fusion("ranks", dense_percent=30), None),
        ({"rule": "ranks", "k": 5, "depth": 20}, Fusion("ranks", depth=20, k=5, dense_percent=30), None),
        ({"rule": "dense"}, Fusion("dense", dense_percent=30), None),
        ({"ef_search": 512}, Fusion("scores", dense_percent=30), 512),
    ],
)
def test_a_trial_replaces_the_named_settings_alone(
    world: Any, fields: dict[str, Any], fusion: Fusion, ef_search: int | None
) -> None:
    served = world.served["r1"]
    served = replace(served, release=replace(served.release, fusion=Fusion("scores", dense_percent=30)))
    tried = TrialQuestion("cats", **fields).under(served)
    assert (tried.fusion, tried.ef_search) == (fusion, ef_search)
    assert (tried.info, tried.collection, served.fusion) == (served.info, served.collection, Fusion("scores", dense_percent=30))


def test_the_admin_door_takes_a_trial_and_the_next_question_has_the_served_settings(
    online: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = online.world.served["r1"].collection
    seen: list[tuple[int | None, int]] = []
    query = collection.query

    def watched(asked: Query) -> Any:
        seen.append((asked.ef_search, asked.asks[0].depth))
        return query(asked)

    monkeypatch.setattr(collection, "query", watched)
    found = online.admin.trial(NAME, {"query": "cats", "ef_search": 33, "depth": 7})
    assert found["hits"][0]["key"] == "cats"
    assert online.admin.search(NAME, "cats")["hits"][0]["key"] == "cats"
    # one more than the depth shows whether the cut goes through a tie
    assert seen == [(33, 8), (None, 101)]


@pytest.mark.parametrize(
    "fields",
    [
        {"dense_percent": 101}, {"dense_percent": -1}, {"depth": 0}, {"depth": 1_001}, {"k": -1}, {"ef_search": 0},
        {"ef_search": 10_001}, {"rule": "best"}, {"fusion": "dense"}, {"ef": 5}, {"depth": "many"},
    ],
)  # fmt: skip
def test_settings_that_do_not_exist_are_refused_at_the_door(online: Online, fields: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="search") as caught:
        online.admin.trial(NAME, {"query": "cats", **fields})
    assert isinstance(caught.value, SettingsError)


@pytest.mark.parametrize(("ef_search", "used"), [(None, 128), (7, 7), (512, 512)])
def test_both_stores_search_with_the_candidates_of_the_question(ef_search: int | None, used: int) -> None:
    assert _search_params(IndexSettings(), Query((), ef_search=ef_search)).hnsw_ef == used
    assert _approximate(IndexSettings(), ef_search).hnsw_ef == used
