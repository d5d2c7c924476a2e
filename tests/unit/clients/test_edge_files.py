"""What only the embedded store has: files, one owner, and threads of one process."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.adapter_suites.store_suite import INFO, NAME, chunk, direction, explicit, head, texts
from tests.checkout import CHECKOUT
from twinline.clients.store.edge import REBUILT, EdgeStore
from twinline.clients.store.protocol import nearest
from twinline.contract.documents.records import Version
from twinline.contract.errors import ContractError, MismatchError, TransientError

_WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from twinline.clients.store.edge import REBUILT, EdgeStore
from tests.adapter_suites.store_suite import INFO, NAME, chunk, explicit
collection = EdgeStore(Path(sys.argv[1])).open(NAME, INFO)
for number in range(50):
    collection.put_points([chunk(f"k{number}", 0, explicit(1))])
print("written", flush=True)
time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> EdgeStore:
    return EdgeStore(tmp_path / "store")


def test_one_process_owns_a_collection_and_its_kill_loses_nothing_that_was_written(store: EdgeStore) -> None:
    store.create(NAME, INFO).close()
    command = [sys.executable, "-c", _WRITE_AND_WAIT, str(store.folder)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline().strip() == "written"
        with pytest.raises(TransientError, match="another process"):
            store.open(NAME, INFO)
        with pytest.raises(TransientError, match="another process"):
            store.drop(NAME)
        owner.kill()
    opened = store.open(NAME, INFO)
    assert opened.count() == 50
    opened.close()


def test_a_document_is_never_missing_while_it_is_replaced(store: EdgeStore) -> None:
    collection = store.create(NAME, INFO)
    collection.put_points([chunk("a", index, explicit(1)) for index in range(2)])
    stop, searches, missing = threading.Event(), [0], [0]

    def search() -> None:
        while not stop.is_set():
            searches[0] += 1
            missing[0] += not nearest(collection, direction(1, 0, 0, 0), limit=1)

    reader = threading.Thread(target=search)
    reader.start()
    for number in range(2, 150):
        count = 1 + number % 3
        collection.put_heads([head("a", explicit(number), count)])
        collection.put_points([chunk("a", index, explicit(number)) for index in range(count)])
        collection.delete_surplus([head("a", explicit(number), count)])
    stop.set()
    reader.join()
    assert searches[0] > 10
    assert missing[0] == 0
    collection.close()


def test_a_closed_collection_says_so(store: EdgeStore) -> None:
    collection = store.create(NAME, INFO)
    collection.close()
    with pytest.raises(ContractError, match="closed"):
        collection.count()


def test_a_build_that_died_before_it_was_a_collection_is_begun_anew(store: EdgeStore) -> None:
    store.begin(NAME, INFO).close()
    (store.folder / ".building" / NAME / "collection.json").unlink()
    again = store.begin(NAME, replace(INFO, space="space-b"))
    assert again.count() == 0
    again.close()


def test_a_record_of_another_version_is_refused(store: EdgeStore) -> None:
    store.create(NAME, INFO).close()
    record = store.folder / NAME / "collection.json"
    record.write_text(json.dumps({**INFO.to_json(), "unheard_of": 1}))
    with pytest.raises(MismatchError, match="unheard_of"):
        store.open(NAME, INFO)
    record.write_text("{")
    with pytest.raises(MismatchError, match="not JSON"):
        store.open(NAME, INFO)


def test_mixed_kinds_of_versions_do_not_reach_the_store(store: EdgeStore) -> None:
    collection = store.create(NAME, INFO)
    collection.put_points([chunk("a", 0, explicit(1))])
    with pytest.raises(ContractError, match="keeps one kind"):
        collection.put_points([chunk("a", 0, Version("log", 5, 1))])
    assert texts(collection) == {"a 0 v1"}
    collection.close()


def test_a_collection_built_anew_beside_is_exchanged_for_the_served_one_and_back(tmp_path: Path) -> None:
    store, beside = EdgeStore(tmp_path), EdgeStore(tmp_path / REBUILT)
    for where, key in ((store, "old"), (beside, "new")):
        made = where.create(NAME, INFO)
        made.put_heads([head(key, explicit(1))])
        made.close()
    assert store.names() == [NAME], "what is built beside is not visible"

    def keys() -> set[str]:
        opened = store.open(NAME, INFO)
        points, _ = opened.scroll({"kind": "head"})
        opened.close()
        return {point.payload["key"] for point in points}

    store.exchange(NAME)
    assert keys() == {"new"}
    store.exchange(NAME)
    assert keys() == {"old"}


def test_nothing_is_exchanged_where_nothing_was_built_beside(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    store.create(NAME, INFO).close()
    with pytest.raises(ContractError, match="replay --new"):
        store.exchange(NAME)
    assert store.names() == [NAME]
