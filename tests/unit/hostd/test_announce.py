"""After which steps does a host announce its addresses?"""

from __future__ import annotations

import pytest

from poolnet.hostd.announce import moves_addresses
from poolnet.hostnet.state import NO_IP, Bridge, IpConfig, Ipv4Mode, Uplink
from poolnet.hostnet.steps import CreateBridge, DestroyBridge, ReplaceUplink, SetAddresses, Step

PLAIN = Bridge(name="xapi1", parent="xenbr0", vlan_tag=7)
ADDRESSED = Bridge(name="xapi1", parent="xenbr0", vlan_tag=7, ip=IpConfig(ipv4_mode=Ipv4Mode.DHCP))


@pytest.mark.parametrize(
    ("step", "announced"),
    [
        (CreateBridge(bridge=PLAIN), False),
        (CreateBridge(bridge=ADDRESSED), True),
        (DestroyBridge(bridge=ADDRESSED), False),
        (ReplaceUplink(name="xenbr0", old=None, new=Uplink(device="eth0", members=("eth0",))), True),
        (SetAddresses(name="xapi1", old=NO_IP, new=ADDRESSED.ip), True),
    ],
)
def test_only_what_moves_addresses_is_announced(step: Step, announced: bool) -> None:
    assert moves_addresses(step) is announced
