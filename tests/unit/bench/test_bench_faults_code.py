"""A rule that is planted wrong is found when a process starts; a name that has moved would else only show in the long run."""

from typing import cast

import pytest

from proofs.skew.faults import Fault
from proofs.skew.faults_code import FAULTS
from proofs.skew.system import System
from twinline.contract.encoder.selfcheck import check_chunks_in_code, check_process, check_rules_in_code
from twinline.contract.errors import MismatchError

RULES = [fault for fault in FAULTS if fault.name.startswith("rule_")]


def _started() -> None:
    check_rules_in_code.cache_clear()
    check_chunks_in_code.cache_clear()
    check_process()


@pytest.mark.parametrize("fault", RULES, ids=lambda fault: fault.name)
def test_a_changed_rule_stops_the_start_of_a_process(fault: Fault) -> None:
    with fault.plant(cast(System, None)), pytest.raises(MismatchError, match="golden check"):
        _started()
    _started()
