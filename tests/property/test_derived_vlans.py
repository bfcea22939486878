"""VLANs come and go, also in each other's way: a host's state is then what the whole of `derive` says.

Rows are written without rules, which would refuse most of it: two networks with one bridge, two VLANs with one tag, a VLAN that
loses the NIC below it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.txn import Txn, View
from poolnet.hostnet import derive as derive_module
from poolnet.hostnet.derive import Deriver, derive
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode, NetworkPurpose
from poolnet.model.types import Ref, is_null
from poolnet.rules import startup
from poolnet.rules.context import CallContext
from poolnet.rules.vlan import make
from tests.property.derived_again import check_derived_again
from tests.unit.rules.world import GREETING, World, facts_with

NAMES = ("blue0", "blue1", "xenbr1", "xenbr2")
STATIC = {"IP": "10.0.0.1", "netmask": "255.255.255.0", "gateway": "10.0.0.254"}
KEYS: tuple[dict[str, str], ...] = (
    {},
    {},
    {"persist": "true"},
    {"ethtool-gso": "off"},
    {"static-routes": "10.9.0.0/16/10.0.0.9"},
)


def a_pool() -> tuple[Database, CallContext]:
    """Two hosts with three NICs each, networks for VLANs, and a guest on each of some of them."""
    database = Database.open(MemoryEngine())
    ctx = replace(World.new(nics=3).ctx, txn=database.begin())
    startup.first_boot(ctx, "11111111-1111-1111-1111-111111111111", GREETING, facts_with(3))
    world = World(ctx=ctx)
    world.host(nics=3)
    networks = [world.network(bridge=f"blue{number}") for number in range(8)]
    for pif in ctx.txn.all(PIF):
        ctx.txn.update(PIF, pif.ref, currently_attached=pif.device != "eth2")
    for number in range(2):
        world.vif(vm := world.vm(), networks[number])
        world.start(vm)
    for pif in list(ctx.txn.all(PIF)):
        tag_on(ctx, pif.ref, 1, networks[4 + int(pif.device[-1])])
    ctx.txn.update(Network, networks[3], purpose=(NetworkPurpose.NBD,))
    ctx.txn.update(Network, networks[7], other_config={"ethtool-gso": "off"})
    database.commit_now(ctx.txn.changes())
    return database, ctx


def tag_on(ctx: CallContext, tagged: Ref[PIF], tag: int, network: Ref[Network]) -> None:
    vlan = make(ctx, ctx.txn.get(PIF, tagged), tag, network)
    ctx.txn.update(PIF, ctx.txn.get(VLAN, vlan).untagged_PIF, currently_attached=True)


def one(view: View, cls: type[Any], number: int, rows: Sequence[Any] | None = None) -> Any:
    """A row chosen by a number; None if there is none."""
    found = rows if rows is not None else list(view.all(cls))
    return found[number % len(found)] if found else None


def do(ctx: CallContext, what: str, a: int, b: int) -> None:
    """Writes something."""
    txn = ctx.txn
    of_vlans = [pif for pif in txn.all(PIF) if not is_null(pif.VLAN_master_of)]
    pif, vlan = one(txn, PIF, a, of_vlans), one(txn, VLAN, a)
    network = one(txn, Network, b)
    if what == "make":
        nics = [each for each in txn.all(PIF) if each.physical]
        tag_on(ctx, one(txn, PIF, a, nics).ref, b % 6, network.ref)
    elif what == "network":
        txn.update(Network, network.ref, **one(txn, Network, a, changes_of_networks(a)))
    elif what == "nic":
        nic = one(txn, PIF, a, [each for each in txn.all(PIF) if each.physical])
        txn.update(PIF, nic.ref, **one(txn, PIF, b, ({"currently_attached": b % 2 == 0}, {"MTU": 1400 + b})))
    elif what == "guest":
        vif = one(txn, VIF, a)
        txn.update(
            VIF, vif.ref, **one(txn, VIF, b, ({"network": network.ref}, {"currently_attached": b % 2 > 0}))
        )
    elif what == "host":
        txn.update(Host, one(txn, Host, a).ref, https_only=b % 2 == 0)
    elif pif is None or vlan is None:
        return
    elif what == "unmake":
        for each in txn.where(VLAN, untagged_PIF=pif.ref):
            txn.destroy(VLAN, each.ref)
        txn.destroy(PIF, pif.ref)
    elif what == "tag":
        txn.update(VLAN, vlan.ref, tag=b % 6)
    elif what == "attach":
        txn.update(PIF, pif.ref, currently_attached=b % 2 == 0)
    elif what == "pif":
        txn.update(PIF, pif.ref, **one(txn, PIF, b, changes_of_vlans(network.ref)))


def changes_of_networks(number: int) -> Sequence[dict[str, Any]]:
    return (
        *({"bridge": name} for name in NAMES),
        *({"other_config": keys} for keys in KEYS),
        {"purpose": (NetworkPurpose.NBD,)},
        {"purpose": ()},
        {"MTU": 1400 + number},
    )


def changes_of_vlans(network: Ref[Network]) -> Sequence[dict[str, Any]]:
    return (
        {"network": network},
        {"MTU": 1400},
        {"managed": False},
        {"managed": True},
        {"management": True},
        {"management": False},
        {"ip_configuration_mode": IpConfigurationMode.STATIC, **STATIC},
        {"ip_configuration_mode": IpConfigurationMode.NONE},
        {"other_config": {"defaultroute": "true"}},
    )


WRITES = st.lists(
    st.tuples(
        st.sampled_from(
            (
                *("make", "make", "make", "make", "unmake", "unmake", "attach", "attach", "pif"),
                *("tag", "network", "nic", "guest", "host"),
            )
        ),
        st.integers(0, 60),
        st.integers(0, 60),
        st.integers(0, 60),
    ),
    min_size=5,
    max_size=30,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(writes=WRITES)
def test_vlans_that_come_and_go_leave_the_rest_as_it_was(writes: list[tuple[str, int, int, int]]) -> None:
    """Also after what was looked at and given up."""
    database, ctx = a_pool()

    def change(txn: Txn, what: str, a: int, b: int, _: int) -> None:
        do(replace(ctx, txn=txn), what, a, b)

    check_derived_again(database, writes, change, commit_every=4)


def test_no_host_is_looked_at_as_a_whole_because_a_vlan_comes_or_goes() -> None:
    database, ctx = a_pool()
    deriver = Deriver()
    network = World(ctx=replace(ctx, txn=(txn := database.begin()))).network(bridge="green")
    hosts = txn.refs(Host)
    deriver.derive(txn, hosts)
    nics = [pif for pif in txn.all(PIF) if pif.device == "eth1" and pif.physical]
    with patch.object(derive_module, "_Derivation", side_effect=AssertionError("a host is looked at")):
        for pif in nics:
            tag_on(replace(ctx, txn=txn), pif.ref, 9, network)
        more = deriver.derive(txn, hosts)
        database.commit_now(txn.changes())
        txn = database.begin()
        for vlan in txn.where(VLAN, tag=9):
            txn.update(PIF, vlan.untagged_PIF, MTU=1400)
        smaller = deriver.derive(txn, hosts)
        for vlan in txn.where(VLAN, tag=9):
            txn.destroy(VLAN, vlan.ref)
            txn.destroy(PIF, vlan.untagged_PIF)
        less = deriver.derive(txn, hosts)
    for states, mtus_bytes in ((more, {1500: 1}), (smaller, {1400: 1}), (less, {})):
        for host in hosts:
            found = [each for each in states[host].bridges if each.name == "green"]
            assert Counter(each.mtu_bytes for each in found) == mtus_bytes
    assert less == {host: derive(txn, host) for host in hosts}


OF_NETWORKS: tuple[dict[str, Any], ...] = (
    {"purpose": (NetworkPurpose.NBD,)},
    {"other_config": {"ethtool-gso": "off"}},
    {"other_config": {"persist": "true"}},
    {"bridge": "blue0"},
    {"bridge": "xenbr1"},
    {"bridge": ""},
    {},
)
OF_PIFS: tuple[dict[str, Any], ...] = (
    {"management": True},
    {"ip_configuration_mode": IpConfigurationMode.STATIC, **STATIC},
    {
        "ip_configuration_mode": IpConfigurationMode.STATIC,
        **STATIC,
        "other_config": {"defaultroute": "true"},
    },
    {"ipv6_configuration_mode": Ipv6ConfigurationMode.AUTOCONF},
    {"managed": False},
    {"currently_attached": False},
)


class Changing:
    """A pool that is changed step by step; after each of them all hosts are derived, and it is committed."""

    def __init__(self) -> None:
        self.database, self.ctx = a_pool()
        self.deriver = Deriver()
        self.txn = self.database.begin()
        self.hosts = self.txn.refs(Host)
        self.deriver.derive(self.txn, self.hosts)

    def nic(self, device: str) -> PIF:
        return next(pif for pif in self.txn.all(PIF) if pif.device == device and pif.physical)

    def network(self, **fields: Any) -> Ref[Network]:
        network = World(ctx=replace(self.ctx, txn=self.txn)).network()
        self.txn.update(Network, network, **{"bridge": "green", **fields})
        return network

    def tag(self, device: str, tag: int, network: Ref[Network]) -> Ref[PIF]:
        """A VLAN comes; its PIF."""
        tag_on(replace(self.ctx, txn=self.txn), self.nic(device).ref, tag, network)
        return list(self.txn.all(PIF))[-1].ref

    def untag(self, pif: Ref[PIF]) -> None:
        (vlan,) = self.txn.where(VLAN, untagged_PIF=pif)
        self.txn.destroy(VLAN, vlan.ref)
        self.txn.destroy(PIF, pif)

    def check(self) -> None:
        found = self.deriver.derive(self.txn, self.hosts)
        assert found == {host: derive(self.txn, host) for host in self.hosts}
        self.database.commit_now(self.txn.changes())
        self.txn = self.database.begin()


@pytest.mark.parametrize("device", ["eth1", "eth2"])  # that has a bridge by itself, and for its VLANs only
@pytest.mark.parametrize(
    ("of_network", "of_pif"),
    [*((each, {}) for each in OF_NETWORKS), *(({}, each) for each in OF_PIFS)],
    ids=str,
)
def test_a_vlan_may_bring_something_else_with_it(
    of_network: dict[str, Any], of_pif: dict[str, Any], device: str
) -> None:
    """It comes with that, changes to what others are and back, and goes; then the other VLAN of that NIC does."""
    pool = Changing()
    network = pool.network(**of_network)
    plain = {name: getattr(pool.nic("eth1"), name) for name in of_pif}
    other = pool.txn.where(VLAN, tagged_PIF=pool.nic(device).ref)[0].untagged_PIF
    pif = pool.tag(device, 9, network)
    for fields in (of_pif, plain, of_pif):
        pool.txn.update(PIF, pif, **fields)
        pool.check()
    for each in (pif, other):
        pool.untag(each)
        pool.check()


@pytest.mark.parametrize("at_once", [True, False])
def test_vlans_may_be_in_the_way_of_each_other(*, at_once: bool) -> None:
    """By a tag, by a bridge's name; one that goes leaves both to another one."""
    pool = Changing()

    def check() -> None:
        if not at_once:
            pool.check()

    first = pool.tag("eth1", 9, pool.network())
    check()
    second = pool.tag("eth1", 9, pool.network(bridge="red"))
    check()
    third = pool.tag("eth1", 10, pool.network())
    pool.check()
    pool.untag(first)
    check()
    pool.untag(third)
    fourth = pool.tag("eth1", 11, pool.network())
    pool.check()
    pool.untag(fourth)
    fifth = pool.tag("eth1", 11, pool.network())
    pool.check()
    (vlan,) = pool.txn.where(VLAN, untagged_PIF=fifth)
    pool.txn.update(VLAN, vlan.ref, tag=12)
    pool.check()
    pool.txn.update(VLAN, vlan.ref, tag=9)
    check()
    pool.untag(second)
    pool.check()


@pytest.mark.parametrize(
    "fields", [{"MTU": 1400}, {"MAC": "02:00:00:00:00:09"}, {"currently_attached": False}, {"managed": False}]
)
def test_what_is_below_may_change_when_a_vlan_comes_or_goes(fields: dict[str, Any]) -> None:
    pool = Changing()
    before = {name: getattr(pool.nic("eth1"), name) for name in fields}
    pif = pool.tag("eth1", 9, pool.network())
    pool.txn.update(PIF, pool.nic("eth1").ref, **fields)
    pool.check()
    pool.untag(pif)
    pool.txn.update(PIF, pool.nic("eth1").ref, **before)
    pool.check()
    pool.tag("eth1", 9, pool.network())
    pool.txn.update(
        Network, pool.nic("eth1").network, other_config={"vswitch-controller-fail-mode": "secure"}
    )
    pool.check()
