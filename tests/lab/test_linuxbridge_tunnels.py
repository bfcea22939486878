"""Tunnels of the Linux bridge: full meshes without loops, against ends that somebody else has made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.state import (
    Bridge,
    DriftPolicy,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    Ipv6Mode,
    TunnelKind,
    TunnelOptions,
    Uplink,
)
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import XENBR0, ipv4, mac, network, port
from tests.lab.switches import kernel_has
from tests.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

KEY = 4711
HERE = IpConfig(
    ipv4_mode=Ipv4Mode.STATIC,
    ipv4_address="10.9.0.2/24",
    ipv6_mode=Ipv6Mode.STATIC,
    ipv6_addresses=("fd00:9::2/64",),
)
FAR = {4: ("10.9.0.11", "10.9.0.12", "10.9.0.13"), 6: ("fd00:9::11", "fd00:9::12", "fd00:9::13")}
DRIVERS = {TunnelKind.GRE: {4: "gretap", 6: "ip6gretap"}, TunnelKind.VXLAN: {4: "vxlan", 6: "vxlan"}}


KINDS = [
    pytest.param(
        kind, marks=pytest.mark.skipif(not kernel_has(DRIVERS[kind][4]), reason="the kernel has none")
    )
    for kind in TunnelKind
]


def tunnel(kind: TunnelKind, *remotes: str) -> Bridge:
    """The bridge of a tunnel."""
    local6 = "fd00:9::2" if kind is TunnelKind.GRE else ""
    options = TunnelOptions(kind=kind, key=KEY, remotes=tuple(sorted(remotes)), local6=local6)
    return Bridge(name="xapi5", mtu_bytes=1400, uplink=Uplink(device="tunnel0", members=(), tunnel=options))


def state(kind: TunnelKind, *remotes: str) -> HostNetwork:
    """A host with an address, a tunnel, and a guest in it."""
    return network(replace(XENBR0, ip=HERE), tunnel(kind, *remotes), port(1, "xapi5"))


@contextmanager
def far_ends(rig: Rig, kind: TunnelKind, version: int) -> Iterator[list[str]]:
    """Three machines on the host's cable, each the end of a tunnel to the host alone; the address inside is `ipv4(N)`."""
    names = [f"far{number}-{kind}-{version}" for number in (1, 2, 3)]
    rig.sh("ip", "link", "add", "cabinet", "type", "bridge")
    rig.sh("ip", "link", "set", "cabinet", "up")
    rig.sh("ip", "link", "set", "sw0", "master", "cabinet")
    with ExitStack() as stack:
        for number, name in enumerate(names, 1):
            rig.sh("ip", "netns", "add", name)
            stack.callback(rig.sh, "ip", "netns", "del", name)
            far_end(rig, name, number, kind, version)
        yield names


def far_end(rig: Rig, name: str, number: int, kind: TunnelKind, version: int) -> None:
    """One of them. It says nothing by itself: a VXLAN device that hears it would lead there again, for five minutes."""
    inside = ("ip", "-n", name)
    rig.cable(f"c{number}", f"far{number}")
    rig.sh("ip", "link", "set", f"c{number}", "master", "cabinet", "up")
    rig.sh("ip", "link", "set", f"far{number}", "netns", name)
    rig.sh(*inside, "link", "set", f"far{number}", "up")
    length = "/24" if version == 4 else "/64"
    nodad = () if version == 4 else ("nodad",)
    rig.sh(*inside, "addr", "add", FAR[version][number - 1] + length, "dev", f"far{number}", *nodad)
    ends = ("local", FAR[version][number - 1], "remote", "10.9.0.2" if version == 4 else "fd00:9::2")
    driver = DRIVERS[kind][version]
    key = ("id", str(KEY), "dstport", "4789") if kind is TunnelKind.VXLAN else ("key", str(KEY))
    more = ("encaplimit", "none") if driver == "ip6gretap" else ()
    rig.sh(*inside, "link", "add", "tunnel", "type", driver, *key, *ends, *more)
    rig.sh("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.tunnel.disable_ipv6=1")
    rig.sh(*inside, "link", "set", "tunnel", "up")
    rig.sh(*inside, "addr", "add", f"{ipv4(10 + number)}/24", "dev", "tunnel")
    rig.sh(*inside, "neigh", "add", ipv4(1), "lladdr", mac(1), "dev", "tunnel", "nud", "permanent")


def answers(rig: Rig, source: str, target: str, *, count: int = 1) -> bool:
    """Does an address answer each ping of a machine exactly once?"""
    words = ("ip", "netns", "exec", source, "ping", "-n", "-c", str(count), "-i", "0.1", "-W", "1", target)
    said = rig.sh(*words, check=False)
    return f" {count} received" in said and "duplicates" not in said


@contextmanager
def guest(rig: Rig, name: str) -> Iterator[str]:
    """The guest of the state, in a machine of its own."""
    rig.sh("ip", "netns", "add", name)
    try:
        rig.cable("vif1.0", "guest1")
        rig.sh("ip", "link", "set", "guest1", "netns", name, "address", mac(1))
        rig.sh("ip", "-n", name, "link", "set", "guest1", "up")
        rig.sh("ip", "-n", name, "addr", "add", f"{ipv4(1)}/24", "dev", "guest1")
        yield name
    finally:
        rig.sh("ip", "netns", "del", name)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_a_guest_hears_each_far_end_once_and_they_do_not_hear_each_other(
    tmp_path: Path, kind: TunnelKind, version: int
) -> None:
    async def body(rig: Rig) -> None:
        with far_ends(rig, kind, version) as far, guest(rig, f"vm-{kind}-{version}") as vm:
            one, two, three = FAR[version]
            await rig.roll_out(state(kind, one, two))
            for number in (1, 2):
                await until(lambda wanted=number: answers(rig, vm, ipv4(10 + wanted)))  # type: ignore[misc]
                assert answers(rig, vm, ipv4(10 + number), count=5)
                assert answers(rig, far[number - 1], ipv4(1), count=5)
            assert not answers(rig, far[0], ipv4(12))  # each host of a pool has a tunnel to each
            assert not answers(rig, vm, ipv4(13))
            numbers = {name: index(rig, name) for name in ("xapi5", *tunnel_links(rig, kind))}
            longer = state(kind, one, two, three)
            await rig.roll_out(longer, "r2")
            assert {name: index(rig, name) for name in numbers} == numbers  # nobody else is disturbed
            await until(lambda: answers(rig, vm, ipv4(13)))
            assert mismatches(await rig.observe(), longer) == ()
            await rig.roll_out(state(kind, three), "r3")
            assert answers(rig, vm, ipv4(13))
            assert not answers(rig, vm, ipv4(11))
            await rig.roll_out(state(kind), "r4")
            assert not answers(rig, vm, ipv4(13))
            assert tunnel_links(rig, kind) == set()

    with_rig(tmp_path, body, backend="linuxbridge")


def index(rig: Rig, name: str) -> str:
    """The number that the kernel gave a link when it was made."""
    return rig.sh("ip", "-o", "link", "show", name).split(":")[0]


def tunnel_links(rig: Rig, kind: TunnelKind) -> set[str]:
    """The host's links of that kind that are ports of the tunnel's bridge."""
    found: set[str] = set()
    for driver in DRIVERS[kind].values():
        lines = rig.sh("ip", "-o", "link", "show", "type", driver, "master", "xapi5").splitlines()
        found |= {line.split(":")[1].strip().partition("@")[0] for line in lines}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_both_versions_of_ip_and_another_key_and_protocol(tmp_path: Path, kind: TunnelKind) -> None:
    other = TunnelKind.VXLAN if kind is TunnelKind.GRE else kind

    async def body(rig: Rig) -> None:
        with guest(rig, f"both-{kind}"):
            mixed = state(kind, *FAR[4], *FAR[6])
            plain = mixed.bridge("xapi5")
            assert plain is not None
            assert plain.uplink is not None
            assert plain.uplink.tunnel is not None
            keyed = replace(plain.uplink, tunnel=replace(plain.uplink.tunnel, key=7))
            renamed = replace(plain.uplink, device="tunnel1")
            states = [
                mixed,
                network(replace(plain, uplink=keyed), port(1, "xapi5")),
                network(replace(plain, uplink=renamed), port(1, "xapi5")),
                state(other, FAR[4][0], FAR[6][0]),
                network(replace(plain, uplink=None), port(1, "xapi5")),
                mixed,
            ]
            for number, wanted in enumerate(states):
                await rig.roll_out(wanted, f"r{number}")
                assert mismatches(await rig.observe(), wanted) == (), number
                assert (await rig.plan_to(wanted)).steps == (), number
            assert len(tunnel_links(rig, kind)) == (6 if kind is TunnelKind.GRE else 2)

    with_rig(tmp_path, body, backend="linuxbridge")


def test_what_somebody_did_to_a_tunnel_is_undone_by_the_next_plan(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        wanted = replace(
            state(TunnelKind.VXLAN, *FAR[4]), drift=DriftPolicy.LEAVE
        )  # else the daemon may be first
        with guest(rig, "repaired"):
            await rig.roll_out(wanted)
            nobody = ("00:00:00:00:00:00", "dev", "tunnel0", "dst")
            for number, harm in enumerate(
                (
                    ("bridge", "fdb", "del", *nobody, FAR[4][1]),
                    ("bridge", "fdb", "append", *nobody, "10.9.0.99"),
                    ("bridge", "link", "set", "dev", "tunnel0", "isolated", "off"),
                    ("ip", "link", "set", "tunnel0", "nomaster"),
                    ("ip", "link", "del", "tunnel0"),
                )
            ):
                rig.sh(*harm)
                assert mismatches(await rig.observe(), wanted) != (), harm
                await rig.roll_out(wanted, f"r{number}")
                assert mismatches(await rig.observe(), wanted) == (), harm
            assert rig.sh("bridge", "fdb", "show", "dev", "tunnel0").count(" dst 10.9.0.1") == 3
            assert "isolated on" in rig.sh("bridge", "-d", "link", "show", "dev", "tunnel0")

    with_rig(tmp_path, body, backend="linuxbridge")
