"""Steps about virtual functions, on states that know of them and on a backend's, which do not."""

from __future__ import annotations

from poolnet.hostnet.advance import advance
from poolnet.hostnet.diff import diff
from poolnet.hostnet.state import EMPTY, FunctionsMode, HostNetwork, SriovNic, VirtualFunction

FUNCTION = VirtualFunction(address="0000:01:10.0", mac="02:00:00:00:00:01")
WITHOUT = HostNetwork(sriov=(SriovNic(device="eth0", mode=FunctionsMode.SYSFS),))
WITH = HostNetwork(sriov=(SriovNic(device="eth0", mode=FunctionsMode.SYSFS, functions=(FUNCTION,)),))


def test_the_state_after_a_plan_is_the_desired_one() -> None:
    for before, after in ((EMPTY, WITH), (WITHOUT, WITH), (WITH, WITHOUT), (WITH, EMPTY)):
        assert advance(before, diff(before, after).steps) == after


def test_a_backend_that_knows_nothing_of_functions_can_take_such_plans() -> None:
    for before, after in ((WITHOUT, WITH), (WITH, WITHOUT), (WITH, EMPTY)):
        assert advance(EMPTY, diff(before, after).steps) == EMPTY
