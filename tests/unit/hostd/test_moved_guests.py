from __future__ import annotations

from dataclasses import replace

from poolnet.hostd.moved_guests import frames_by_uplink, frames_of, moved
from poolnet.hostnet.state import (
    Bridge,
    GuestPort,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    LockMode,
    PortLock,
    Uplink,
)
from poolnet.hostnet.steps import (
    AddPort,
    CreateBridge,
    MovePort,
    RemovePort,
    ReplaceLock,
    ReplaceUplink,
)

STATIC = IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="192.0.2.1/24")
ETH0 = Uplink(device="eth0", members=("eth0",))
XENBR0 = Bridge(name="xenbr0", uplink=ETH0, ip=STATIC)
VLAN = Bridge(name="xapi1", parent="xenbr0", vlan_tag=5)
INTERNAL = Bridge(name="xapi2", ip=STATIC)
LOCK = PortLock(mode=LockMode.UNLOCKED, mac="52:54:00:00:00:01")


def port(number: int, bridge: str, mode: LockMode = LockMode.UNLOCKED) -> GuestPort:
    return GuestPort(device=f"vif{number}.0", bridge=bridge, lock=replace(LOCK, mode=mode))


ON_NIC, ON_VLAN, INSIDE = port(1, "xenbr0"), port(2, "xapi1"), port(3, "xapi2")
DISABLED = port(4, "xenbr0", LockMode.DISABLED)
NETWORK = HostNetwork(bridges=(VLAN, INTERNAL, XENBR0), ports=(ON_NIC, ON_VLAN, INSIDE, DISABLED))


def test_another_uplink_moves_all_that_is_behind_it() -> None:
    everything = ("vif1.0", "vif2.0")
    assert moved([ReplaceUplink(name="xenbr0", old=None, new=ETH0)], NETWORK) == everything
    assert moved([CreateBridge(bridge=XENBR0)], NETWORK) == everything
    assert moved([CreateBridge(bridge=VLAN)], NETWORK) == ("vif2.0",)


def test_what_nobody_outside_can_have_learnt_is_not_announced() -> None:
    assert moved([CreateBridge(bridge=INTERNAL), AddPort(port=INSIDE)], NETWORK) == ()
    assert moved([AddPort(port=ON_NIC)], NETWORK) == ()
    assert moved([CreateBridge(bridge=VLAN), AddPort(port=ON_VLAN)], NETWORK) == ()
    lock = ReplaceLock(device="vif1.0", bridge="xenbr0", old=LOCK, new=LOCK)
    assert moved([lock, RemovePort(port=ON_NIC)], replace(NETWORK, ports=())) == ()


def test_ports_that_move_or_come_back_are_announced() -> None:
    alone = ("vif1.0",)
    assert moved([MovePort(old=INSIDE, new=ON_NIC)], NETWORK) == alone
    assert moved([RemovePort(port=ON_NIC), AddPort(port=ON_NIC)], NETWORK) == alone
    assert moved([AddPort(port=ON_NIC)], NETWORK, again=True) == alone


def test_frames_are_those_of_the_protocols() -> None:
    mac = "525400000001"
    (frame,) = frames_of(LOCK)
    head = "ff" * 6 + mac
    body = f"0001080006040003{mac}00000000{mac}00000000"
    assert (frame.hex(), len(frame)) == ((head + "8035" + body).ljust(120, "0"), 60)
    tagged = frames_of(replace(LOCK, trunks=(7, 100)))
    assert [one.hex()[:36] for one in tagged] == [head + "810000078035", head + "810000648035"]
    assert frames_of(replace(LOCK, mac="none")) == ()


def test_guests_are_announced_on_their_uplink_with_their_vlans_tag() -> None:
    frames = frames_by_uplink(NETWORK, ("vif1.0", "vif2.0", "vif3.0", "vif9.0"))
    assert frames == {"eth0": (*frames_of(LOCK), *frames_of(LOCK, 5))}
    assert frames_of(LOCK, 5)[0].hex()[24:36] == "810000058035"
