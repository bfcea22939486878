"""Random states of a host's network: what the laws of plans are tested with, as values and on real switches."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from poolnet.hostnet.state import (
    NO_IP,
    BondMode,
    BondOptions,
    Bridge,
    FunctionsMode,
    GuestPort,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    LinkSettings,
    LockMode,
    PortLock,
    SriovNic,
    TunnelKind,
    TunnelOptions,
    Uplink,
    VirtualFunction,
)

NICS = ("eth0", "eth1", "eth2", "eth3")
TOP = ("xenbr0", "xenbr1", "xapi0", "xapi1")
VLANS = ("xapi2", "xapi3", "xapi4", "xapi1")
DEVICES = ("vif1.0", "vif1.1", "vif2.0", "vif3.0")
ADDRESSES = ("10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24")


@st.composite
def locks(draw: st.DrawFn) -> PortLock:
    return PortLock(
        mode=draw(st.sampled_from(LockMode)),
        mac="aa:00:00:00:00:01",
        ipv4_allowed=draw(
            st.sampled_from([(), ("10.0.0.5",), ("10.0.0.5/32",), ("10.0.0.5", "10.0.1.0/24")])
        ),
        trunks=draw(st.sampled_from([(), (5,), (5, 6, 20)])),
    )


TUNNEL = Uplink(
    device="tunnel0",
    members=(),
    tunnel=TunnelOptions(kind=TunnelKind.GRE, key=1, remotes=("192.0.2.9",)),
)


def uplinks(draw: st.DrawFn, free: list[str], tunnels: list[Uplink]) -> Uplink | None:
    count = draw(st.integers(0, min(2, len(free))))
    members = tuple(sorted(free.pop(draw(st.integers(0, len(free) - 1))) for _ in range(count)))
    if not members:
        tunneled = draw(st.booleans())
        return tunnels.pop() if tunneled and tunnels else None
    if len(members) == 1:
        return Uplink(device=members[0], members=members)
    return Uplink(
        device=f"bond{members[0][-1]}",
        members=members,
        bond=BondOptions(mode=draw(st.sampled_from(BondMode))),
    )


@st.composite
def sriov_nics(draw: st.DrawFn) -> tuple[SriovNic, ...]:
    """NICs with virtual functions; no real switch has any."""

    def functions(nic: str) -> tuple[VirtualFunction, ...]:
        return tuple(
            VirtualFunction(
                address=f"{nic}.{number}",
                mac=draw(st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:0a"])),
                vlan_tag=draw(st.sampled_from([0, 7])),
                connected=draw(st.booleans()),
                vif_uuid="v",
            )
            for number in sorted(draw(st.sets(st.integers(0, 3))))
        )

    return tuple(
        SriovNic(device=nic, mode=draw(st.sampled_from(FunctionsMode)), functions=functions(nic))
        for nic in sorted(draw(st.sets(st.sampled_from(NICS))))
    )


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    macs: tuple[str, ...] = ("02:00:00:00:00:01", "02:00:00:00:00:02"),
    links: tuple[tuple[tuple[str, str], ...], ...] = ((("gro", "off"),), (("speed", "1000"),)),
    sriov: bool = False,
) -> HostNetwork:
    nics, tunnels, addresses = list(NICS), [TUNNEL], list(ADDRESSES)
    tags: set[tuple[str, int]] = set()

    def ip() -> IpConfig:
        if not addresses or draw(st.booleans()):
            return NO_IP
        address = addresses.pop(draw(st.integers(0, len(addresses) - 1)))
        return IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address=address)

    def bridge(name: str, **kind: object) -> Bridge:
        made = Bridge(
            name=name, mac=draw(st.sampled_from(macs)), mtu_bytes=draw(st.sampled_from([1500, 9000])), ip=ip()
        )
        return replace(made, **kind)  # type: ignore[arg-type]

    top_names = draw(st.lists(st.sampled_from(TOP), unique=True))
    bridges = [bridge(name, uplink=uplinks(draw, nics, tunnels)) for name in top_names]
    tops = [made.name for made in bridges]
    for name in draw(st.lists(st.sampled_from(VLANS), unique=True)) if tops else []:
        parent, tag = draw(st.sampled_from(tops)), draw(st.sampled_from([5, 6]))
        if name not in tops and (parent, tag) not in tags:
            tags.add((parent, tag))
            bridges.append(bridge(name, parent=parent, vlan_tag=tag))
    names = [made.name for made in bridges]
    ports = [
        GuestPort(
            device=device,
            bridge=draw(st.sampled_from(names)),
            lock=draw(locks()),
            mtu_bytes=draw(st.sampled_from([1500, 9000])),
            vif_uuid="v",
        )
        for device in (draw(st.lists(st.sampled_from(DEVICES), unique=True)) if names else [])
    ]
    return HostNetwork(
        bridges=tuple(sorted(bridges, key=lambda made: made.name)),
        ports=tuple(sorted(ports, key=lambda port: port.device)),
        links=tuple(
            LinkSettings(name=nic, values=draw(st.sampled_from(links)))
            for nic in sorted(draw(st.sets(st.sampled_from(NICS))))
        ),
        sriov=draw(sriov_nics()) if sriov else (),
        management_bridge=draw(st.sampled_from(["", *names])),
        nbd_bridges=tuple(sorted(name for name in names if draw(st.booleans()))),
        http_closed=draw(st.booleans()),
    )
