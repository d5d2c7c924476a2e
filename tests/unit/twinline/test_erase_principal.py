"""An erasure is refused to a caller without the right to it before anything is asked of broker, store or list."""

from pathlib import Path

import pytest

from twinline.clients.settings import Settings
from twinline.contract.principal import NotAllowedError, Principal
from twinline.upkeep.erase import flow

WITHOUT = Principal("ann", frozenset({"search", "publish"}))
OF_ONE_SOURCE = Principal("bob", frozenset({"erase"}), sources=frozenset({"notes"}))


@pytest.mark.parametrize(
    ("principal", "said"), [(WITHOUT, "ann has no right to erase"), (OF_ONE_SOURCE, "not for source 'mail'")]
)
def test_nothing_is_touched_for_a_caller_that_may_not_erase(tmp_path: Path, principal: Principal, said: str) -> None:
    # of a broker that nobody answers at
    settings = Settings(home=tmp_path / "home", kafka_bootstrap="127.0.0.1:1")
    with pytest.raises(NotAllowedError, match=said):
        flow.erase(settings, principal, "mail", "a", "asked to", lambda line: None)
    with pytest.raises(NotAllowedError, match=said):
        flow.lift(settings, principal, "mail", "a", "an error")
    assert not settings.home.exists()


def test_the_log_of_all_sources_is_not_expired_for_a_caller_of_one(tmp_path: Path) -> None:
    with pytest.raises(NotAllowedError, match="not for every source"):
        flow.expire_log(Settings(home=tmp_path), OF_ONE_SOURCE, "s1")
