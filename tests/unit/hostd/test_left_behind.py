"""Only what this daemon has marked, and nobody has open, is taken for left behind by a switch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolnet.hostd.netlink_codec import Link
from poolnet.hostd.netlink_links import OUR_GROUP
from poolnet.hostd.openvswitch.left_behind import left_behind

GONE = Link(index=7, name="xapi9", kind="tun", group=OUR_GROUP, is_up=True, data={}, port_data={})


def test_an_interface_that_is_no_port_and_that_nobody_has_open_is_left_behind() -> None:
    assert left_behind([GONE, replace(GONE, name="xapi1")], {"xenbr0"}) == ("xapi1", "xapi9")


@pytest.mark.parametrize(
    "link",
    [
        replace(GONE, name="xenbr0"),
        replace(GONE, has_carrier=True),
        replace(GONE, group=0),
        replace(GONE, kind="bridge"),
    ],
    ids=["a port of the switch", "a program has it open", "somebody else's", "no interface of such a switch"],
)
def test_others_are_not(link: Link) -> None:
    assert left_behind([link], {"xenbr0"}) == ()
