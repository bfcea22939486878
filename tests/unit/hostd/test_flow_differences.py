"""Which differences between wanted and installed flows are real?"""

from __future__ import annotations

from poolnet.hostd.openvswitch.flows import differences

FRAGMENTS = "table=13 priority=320,icmp6,nw_frag=yes cookie=0x1 actions=resubmit(,61)"
DROP = "priority=0 cookie=0x1 actions=drop"


def test_a_flow_that_is_lacking_and_there_is_no_difference() -> None:
    assert differences(f"-{FRAGMENTS}\n+{FRAGMENTS}\n") == []


def test_what_is_missing_or_foreign_is_one() -> None:
    foreign = "priority=99 actions=NORMAL"
    assert differences(f"-{DROP}\n-{FRAGMENTS}\n+{FRAGMENTS}\n+{foreign}\n") == [f"-{DROP}", f"+{foreign}"]


def test_a_flow_with_other_actions_is_one() -> None:
    assert len(differences(f"-{DROP}\n+{DROP.replace('drop', 'NORMAL')}\n")) == 2
