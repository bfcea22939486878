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

# Made once: hypothesis looks at each new strategy for longer than it takes to draw from it.
_YES_OR_NO = st.booleans()
_LOCK_MODES, _BOND_MODES, _FUNCTIONS_MODES = (
    st.sampled_from(modes) for modes in (LockMode, BondMode, FunctionsMode)
)
_IPV4_ALLOWED = st.sampled_from([(), ("10.0.0.5",), ("10.0.0.5/32",), ("10.0.0.5", "10.0.1.0/24")])
_TRUNKS = st.sampled_from([(), (5,), (5, 6, 20)])
_FUNCTION_MACS = st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:0a"])
_FUNCTION_TAGS = st.sampled_from([0, 7])
_FUNCTION_NUMBERS = st.sets(st.integers(0, 3))
_MTUS = st.sampled_from([1500, 9000])
_TAGS = st.sampled_from([5, 6])
_SOME_NICS = st.sets(st.sampled_from(NICS))
_SOME_TOP, _SOME_VLANS, _SOME_DEVICES = (
    st.lists(st.sampled_from(names), unique=True) for names in (TOP, VLANS, DEVICES)
)


@st.composite
def locks(draw: st.DrawFn) -> PortLock:
    return PortLock(
        mode=draw(_LOCK_MODES),
        mac="aa:00:00:00:00:01",
        ipv4_allowed=draw(_IPV4_ALLOWED),
        trunks=draw(_TRUNKS),
    )


_LOCKS = locks()
TUNNEL = Uplink(
    device="tunnel0",
    members=(),
    tunnel=TunnelOptions(kind=TunnelKind.GRE, key=1, remotes=("192.0.2.9",)),
)


def uplinks(draw: st.DrawFn, free: list[str], tunnels: list[Uplink]) -> Uplink | None:
    count = draw(st.integers(0, min(2, len(free))))
    members = tuple(sorted(free.pop(draw(st.integers(0, len(free) - 1))) for _ in range(count)))
    if not members:
        tunneled = draw(_YES_OR_NO)
        return tunnels.pop() if tunneled and tunnels else None
    if len(members) == 1:
        return Uplink(device=members[0], members=members)
    return Uplink(
        device=f"bond{members[0][-1]}",
        members=members,
        bond=BondOptions(mode=draw(_BOND_MODES)),
    )


@st.composite
def sriov_nics(draw: st.DrawFn) -> tuple[SriovNic, ...]:
    """NICs with virtual functions; no real switch has any."""

    def functions(nic: str) -> tuple[VirtualFunction, ...]:
        return tuple(
            VirtualFunction(
                address=f"{nic}.{number}",
                mac=draw(_FUNCTION_MACS),
                vlan_tag=draw(_FUNCTION_TAGS),
                connected=draw(_YES_OR_NO),
                vif_uuid="v",
            )
            for number in sorted(draw(_FUNCTION_NUMBERS))
        )

    return tuple(
        SriovNic(device=nic, mode=draw(_FUNCTIONS_MODES), functions=functions(nic))
        for nic in sorted(draw(_SOME_NICS))
    )


_SRIOV_NICS = sriov_nics()


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
    own_mac, settings = st.sampled_from(macs), st.sampled_from(links)

    def ip() -> IpConfig:
        if not addresses or draw(_YES_OR_NO):
            return NO_IP
        address = addresses.pop(draw(st.integers(0, len(addresses) - 1)))
        return IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address=address)

    def bridge(name: str, **kind: object) -> Bridge:
        made = Bridge(name=name, mac=draw(own_mac), mtu_bytes=draw(_MTUS), ip=ip())
        return replace(made, **kind)  # type: ignore[arg-type]

    top_names = draw(_SOME_TOP)
    bridges = [bridge(name, uplink=uplinks(draw, nics, tunnels)) for name in top_names]
    tops = [made.name for made in bridges]
    for name in draw(_SOME_VLANS) if tops else []:
        parent, tag = draw(st.sampled_from(tops)), draw(_TAGS)
        if name not in tops and (parent, tag) not in tags:
            tags.add((parent, tag))
            bridges.append(bridge(name, parent=parent, vlan_tag=tag))
    names = [made.name for made in bridges]
    ports = [
        GuestPort(
            device=device,
            bridge=draw(st.sampled_from(names)),
            lock=draw(_LOCKS),
            mtu_bytes=draw(_MTUS),
            vif_uuid="v",
        )
        for device in (draw(_SOME_DEVICES) if names else [])
    ]
    return HostNetwork(
        bridges=tuple(sorted(bridges, key=lambda made: made.name)),
        ports=tuple(sorted(ports, key=lambda port: port.device)),
        links=tuple(LinkSettings(name=nic, values=draw(settings)) for nic in sorted(draw(_SOME_NICS))),
        sriov=draw(_SRIOV_NICS) if sriov else (),
        management_bridge=draw(st.sampled_from(["", *names])),
        nbd_bridges=tuple(sorted(name for name in names if draw(_YES_OR_NO))),
        http_closed=draw(_YES_OR_NO),
    )
