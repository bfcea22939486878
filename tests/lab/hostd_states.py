"""Some states of a host's network for the tests of the host daemon."""

from __future__ import annotations

from dataclasses import replace

from poolnet.hostnet.state import (
    BondMode,
    BondOptions,
    Bridge,
    GuestPort,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    LockMode,
    PortLock,
    Uplink,
)

HOST_MAC = "02:00:00:00:00:01"
NETWORK_UUID = "11111111-1111-1111-1111-111111111111"
VLAN_UUID = "22222222-2222-2222-2222-222222222222"
STATIC = IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="10.9.0.2/24", ipv4_gateway="10.9.0.1")


def nic(name: str) -> Uplink:
    """An uplink of one NIC."""
    return Uplink(device=name, members=(name,))


XENBR0 = Bridge(name="xenbr0", uplink=nic("eth0"), mac=HOST_MAC, network_uuids=(NETWORK_UUID,))
VLAN50 = Bridge(
    name="xapi0", parent="xenbr0", vlan_tag=50, mac=HOST_MAC, network_uuids=(VLAN_UUID, NETWORK_UUID)
)
INTERNAL = Bridge(name="xapi1", mtu_bytes=1400)
BOND0 = Uplink(
    device="bond0",
    members=("eth0", "eth1"),
    bond=BondOptions(
        mode=BondMode.LACP, properties=(("hashing_algorithm", "src_mac"), ("lacp-time", "fast"))
    ),
)


def unlocked(number: int) -> PortLock:
    """The lock of the guest of that number when it may send anything."""
    return PortLock(mode=LockMode.UNLOCKED, mac=mac(number))


def locked(number: int, *addresses: str) -> PortLock:
    """The lock of the guest of that number when it may use these addresses only."""
    return PortLock(mode=LockMode.LOCKED, mac=mac(number), ipv4_allowed=addresses or (ipv4(number),))


def mac(number: int) -> str:
    """The MAC of the guest of that number."""
    return f"aa:00:00:00:{number >> 8:02x}:{number & 255:02x}"


def ipv4(number: int) -> str:
    """The address of the guest of that number."""
    return f"10.0.{number >> 8}.{number & 255}"


def port(number: int, bridge: str, lock: PortLock | None = None) -> GuestPort:
    """The port of the guest of that number, with every mark set."""
    return GuestPort(
        device=f"vif{number}.0",
        bridge=bridge,
        lock=unlocked(number) if lock is None else lock,
        vif_uuid=f"00000000-0000-0000-0001-{number:012}",
        vm_uuid=f"00000000-0000-0000-0002-{number:012}",
        network_uuid=NETWORK_UUID,
    )


def network(*parts: Bridge | GuestPort, management: str = "") -> HostNetwork:
    """The state of these parts."""
    bridges = sorted((part for part in parts if isinstance(part, Bridge)), key=lambda bridge: bridge.name)
    ports = sorted((part for part in parts if isinstance(part, GuestPort)), key=lambda guest: guest.device)
    return HostNetwork(bridges=tuple(bridges), ports=tuple(ports), management_bridge=management)


def full_house(vlans: int, ports: int) -> HostNetwork:
    """A NIC's bridge with so many VLANs, and so many locked guests on the bridge and its VLANs."""
    tags = [replace(VLAN50, name=f"xapi{tag}", vlan_tag=tag) for tag in range(1, vlans + 1)]
    names = ["xenbr0", *(vlan.name for vlan in tags)]
    guests = [port(number, names[number % len(names)], locked(number)) for number in range(ports)]
    return network(XENBR0, *tags, *guests)


EVERYTHING = network(
    replace(XENBR0, ip=STATIC),
    VLAN50,
    INTERNAL,
    port(1, "xenbr0", locked(1)),
    port(2, "xapi0"),
    replace(port(3, "xapi1", replace(unlocked(3), mode=LockMode.DISABLED)), mtu_bytes=1400),
    replace(port(4, "xenbr0", replace(unlocked(4), trunks=(7, 9))), rate_kbytes_per_s=1000),
    management="xenbr0",
)
