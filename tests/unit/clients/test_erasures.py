"""The list of erased documents: who may come in, what it shows of anybody, and what happens without its secret."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from twinline.clients.erasure_list import (
    Erasures,
    Verdict,
    make_secret,
    read_list,
    read_secret,
    require_known_settings,
    save_list,
    secret_check,
)
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON
from twinline.contract.errors import ContractError, MismatchError, SettingsError

SECRET = b"s" * 32


def event(known: Erasures, act: str = "erase", key: str = "ann", **fields: JSON) -> dict[str, JSON]:
    said: dict[str, JSON] = {"schema": 1, "act": act, "token": known.token("s", key), "check": known.check()}
    return {**said, "time": "2026-01-31T08:00:00+00:00", "by": "me", "reason": "asked to", **fields}


def erased(*events: tuple[str, int]) -> Erasures:
    known = Erasures({}, SECRET)
    for act, at_ms in events:
        known = known.with_event(event(known, act), at_ms)
    return known


@pytest.mark.parametrize(
    ("events", "appended_ms", "verdict"),
    [
        ([], None, "free"),
        ([("erase", 100)], None, "refused"),  # a file: it would come in now
        ([("erase", 100)], 99, "before"),  # the log had it
        ([("erase", 100)], 100, "before"),
        ([("erase", 100)], 101, "refused"),  # somebody sent it all the same
        ([("erase", 100), ("lift", 200)], None, "free"),
        ([("erase", 100), ("lift", 200)], 150, "before"),  # refused then, and for good
        ([("erase", 100), ("lift", 200)], 201, "free"),
        ([("erase", 100), ("lift", 200), ("erase", 300)], 250, "before"),
        ([("erase", 100), ("lift", 200), ("erase", 300)], 301, "refused"),
        ([("lift", 50)], None, "free"),  # of what never was erased
    ],
)
def test_who_comes_in_depends_on_when_it_was_sent(
    events: list[tuple[str, int]], appended_ms: int | None, verdict: Verdict
) -> None:
    known = erased(*events)
    assert known.verdict("s", "ann", appended_ms) == verdict
    assert known.verdict("s", "bob", appended_ms) == "free"
    assert known.verdict("other", "ann", appended_ms) == "free"


def test_an_entry_does_not_show_whom_it_is_about_and_differs_by_secret() -> None:
    known = erased(("erase", 100))
    assert "ann" not in repr(known.entries)
    assert known.token("a_b", "c") != known.token("a", "b_c")
    assert known.token("s", "ann") != Erasures({}, b"another secret").token("s", "ann")
    assert "ann" not in known.refusal("s", "ann")
    assert "--lift" in known.refusal("s", "ann")


def test_what_identifies_the_list_changes_with_who_must_stay_out() -> None:
    assert erased().fingerprint() == erased(("erase", 1), ("lift", 2)).fingerprint() == ""
    once = erased(("erase", 1))
    both = once.with_event(event(once, key="bob"), 5)
    assert "" != once.fingerprint() != both.fingerprint() != ""


@pytest.mark.parametrize("secret", [b"", b"another"])
def test_without_the_secret_nothing_is_read(secret: bytes) -> None:
    known = Erasures({}, SECRET)
    with pytest.raises(MismatchError, match="erasures/secret"):
        Erasures({}, secret).with_event(event(known), 100)


@pytest.mark.parametrize("damage", [{"token": None}, {"act": "eat"}, {"schema": 2}, {"at_ms": "x"}])
def test_a_damaged_record_is_named(damage: dict[str, JSON]) -> None:
    known = Erasures({}, SECRET)
    broken = {name: value for name, value in {**event(known), **damage}.items() if value is not None}
    with pytest.raises(ContractError):
        known.with_event(broken, 100)


def test_a_record_written_again_counts_from_when_it_was_first_written() -> None:
    known = Erasures({}, SECRET)
    assert known.with_event(event(known, at_ms=100), 900).verdict("s", "ann", 500) == "refused"


def test_two_lists_together_know_what_either_knows_and_the_newer_of_both() -> None:
    older, newer = erased(("erase", 100)), erased(("erase", 100), ("lift", 200))
    assert older.merged(newer).verdict("s", "ann") == newer.merged(older).verdict("s", "ann") == "free"
    assert Erasures().merged(older).verdict("s", "ann") == "refused"


def test_the_list_survives_as_a_file_and_needs_its_secret_there(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert read_list(settings).entries == {}
    known = Erasures({}, make_secret(settings))
    known = known.with_event(event(known), 100)
    save_list(settings, known)
    assert read_list(settings) == known
    (tmp_path / "erasures" / "secret").unlink()
    with pytest.raises(MismatchError, match="has none"):
        read_list(settings)
    (tmp_path / "erasures" / "list.json").write_text("{")
    with pytest.raises(ContractError, match="damaged"):
        read_list(settings)


def test_a_secret_is_made_once_is_its_owners_alone_and_may_come_from_the_environment(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert read_secret(settings) == b""
    made = make_secret(settings)
    assert len(made) == 64
    assert make_secret(settings) == made
    assert (tmp_path / "erasures" / "secret").stat().st_mode & 0o777 == 0o600
    given = settings.model_copy(update={"erasure_secret": SecretStr("from the vault")})
    assert make_secret(given) == b"from the vault"
    with pytest.raises(SettingsError, match="too short"):
        require_known_settings(given)
    assert secret_check(made) not in json.dumps(made.decode())


def test_an_empty_list_asks_for_no_secret() -> None:
    assert replace(Erasures(), secret=b"").verdict("s", "ann") == "free"
