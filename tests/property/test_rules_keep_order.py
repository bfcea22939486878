"""Whatever clients do, in whatever order: the database stays consistent, and each host's state can be derived from it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.staging import stage
from poolnet.db.txn import Txn
from poolnet.hostnet.derive import derive
from poolnet.hostnet.laws import contradictions
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import (
    BondMode,
    IpConfigurationMode,
    NetworkDefaultLockingMode,
    VifLockingMode,
    VmPowerState,
)
from poolnet.model.errors import Failure
from poolnet.model.types import NULL, Ref, is_null
from poolnet.rules import startup
from poolnet.rules.allowed import refresh_vm
from poolnet.rules.context import CallContext
from tests.property.derived_again import check_derived_again
from tests.unit.rules.world import GREETING, LOCAL, NETWORK_RECORD, VIF_RECORD, VM_RECORD, World, facts_with

LIVE = (VmPowerState.RUNNING, VmPowerState.PAUSED)
NO_IP = {"IP": "", "netmask": "", "gateway": "", "DNS": ""}


@cache
def started() -> tuple[Database, CallContext]:
    """A committed pool of two hosts, and a context like the one that made it."""
    database = Database.open(MemoryEngine())
    ctx = replace(World.new(nics=4).ctx, txn=database.begin())
    startup.first_boot(ctx, "11111111-1111-1111-1111-111111111111", GREETING, facts_with(4))
    World(ctx=ctx).host(nics=4)
    database.commit_now(ctx.txn.changes())
    return database, ctx


class Client:
    """Calls rules with arguments chosen by numbers among what exists."""

    def __init__(self, txn: Txn, ctx: CallContext) -> None:
        self.world = World(ctx=replace(ctx, txn=txn, guest_actions=[], hostname_changes=[]))
        self.txn = txn

    def _one(self, cls: type[Any], number: int) -> Ref[Any]:
        refs = self.txn.refs(cls)
        return refs[number % len(refs)] if refs else NULL

    def do(self, method: str, a: int, b: int, c: int) -> None:
        """Calls; a refusal is fine, but for those that only a bug can cause."""
        try:
            self.world.call(method, **self._arguments(method, a, b, c))
        except Failure as failure:
            if failure.code == "INTERNAL_ERROR":
                raise

    def _arguments(self, method: str, a: int, b: int, c: int) -> dict[str, Any]:
        cls, _, name = method.partition(".")
        if cls == "network":
            return self._of_network(name, a, b)
        if cls == "VIF":
            return self._of_vif(name, a, b, c)
        if cls == "VM":
            return self._of_vm(name, a, b)
        if cls == "PIF":
            return self._of_pif(name, a, b)
        if cls == "VLAN" and name == "create":
            return {"tagged_PIF": self._one(PIF, a), "tag": b % 4, "network": self._one(Network, c)}
        if cls == "tunnel" and name == "create":
            return {"transport_PIF": self._one(PIF, a), "network": self._one(Network, b)}
        if cls == "Bond" and name == "create":
            members = tuple({self._one(PIF, a), self._one(PIF, a + 1 + b % 3)})
            return {"network": self._one(Network, c), "members": members, "MAC": ""}
        if method == "Bond.set_mode":
            return {"self": self._one(Bond, a), "value": list(BondMode)[b % 3]}
        if method == "host.management_reconfigure":
            return {"pif": self._one(PIF, a)}
        classes: dict[str, type[Any]] = {"VLAN": VLAN, "tunnel": Tunnel, "Bond": Bond}
        return {"self": self._one(classes[cls], a)}

    def _of_network(self, name: str, a: int, b: int) -> dict[str, Any]:
        if name == "create":
            return {"record": {**NETWORK_RECORD, "MTU": a % 10000, "managed": b % 8 > 0}}
        if name == "set_default_locking_mode":
            return {"network": self._one(Network, a), "value": list(NetworkDefaultLockingMode)[b % 2]}
        return {"self": self._one(Network, a)}

    def _of_vif(self, name: str, a: int, b: int, c: int) -> dict[str, Any]:
        if name == "create":
            fields = {"VM": self._one(VM, a), "network": self._one(Network, b), "device": str(c % 4)}
            return {"record": {**VIF_RECORD, **fields}}
        arguments: dict[str, Any] = {"self": self._one(VIF, a)}
        if name == "move":
            arguments["network"] = self._one(Network, b)
        if name == "set_locking_mode":
            arguments["value"] = list(VifLockingMode)[b % 4]
        if name == "set_trunks":
            arguments["value"] = tuple(range(b % 3))
        return arguments

    def _of_vm(self, name: str, a: int, b: int) -> dict[str, Any]:
        if name == "create":
            return {"record": VM_RECORD}
        if name == "destroy":
            return {"self": self._one(VM, a)}
        arguments: dict[str, Any] = {"vm": self._one(VM, a)}
        if name in ("start", "resume"):
            arguments |= {"start_paused": b % 3 == 0, "force": False}
        if name == "clone":
            arguments["new_name"] = "copy"
        return arguments

    def _of_pif(self, name: str, a: int, b: int) -> dict[str, Any]:
        if name == "scan":
            return {"host": self._one(Host, a)}
        arguments: dict[str, Any] = {"self": self._one(PIF, a)}
        if name == "reconfigure_ip":
            static = {"IP": f"10.0.{b % 4}.{b % 250}", "netmask": "255.255.255.0", "gateway": "", "DNS": ""}
            mode = list(IpConfigurationMode)[b % 3]
            arguments |= {"mode": mode, **(static if mode is IpConfigurationMode.STATIC else NO_IP)}
        return arguments


METHODS = [
    *("network.create", "network.destroy", "network.set_default_locking_mode"),
    *(
        "VM.create",
        "VM.destroy",
        "VM.clone",
        "VM.start",
        "VM.clean_shutdown",
        "VM.hard_shutdown",
        "VM.clean_reboot",
    ),
    *("VM.pause", "VM.unpause", "VM.suspend", "VM.resume", "VM.power_state_reset"),
    *(
        "VIF.create",
        "VIF.destroy",
        "VIF.plug",
        "VIF.unplug",
        "VIF.move",
        "VIF.set_locking_mode",
        "VIF.set_trunks",
    ),
    *("PIF.scan", "PIF.plug", "PIF.unplug", "PIF.forget", "PIF.reconfigure_ip", "PIF.destroy"),
    *("VLAN.create", "VLAN.destroy", "tunnel.create", "tunnel.destroy"),
    *("Bond.create", "Bond.destroy", "Bond.set_mode", "host.management_reconfigure"),
]
# What builds something is tried more often than what tears it down.
CALLS = st.lists(
    st.tuples(
        st.sampled_from(
            [*METHODS, *("VM.create", "VIF.create", "VM.start", "VLAN.create", "network.create") * 4]
        ),
        st.integers(0, 60),
        st.integers(0, 60),
        st.integers(0, 60),
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calls=CALLS)
def test_any_sequence_of_calls_keeps_the_pool_in_order(calls: list[tuple[str, int, int, int]]) -> None:
    database, ctx = started()
    txn = database.begin()
    client = Client(txn, ctx)
    for method, a, b, c in calls:
        client.do(method, a, b, c)
        for host in txn.refs(Host):
            assert contradictions(derive(txn, host)) == ()
    check_vms(txn)
    check_pifs(txn)
    check_ports(txn)
    check_allowed_operations(client)
    stage(database.view.layer, txn.changes(), 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calls=CALLS)
def test_what_has_not_changed_need_not_be_derived_anew(calls: list[tuple[str, int, int, int]]) -> None:
    """Not after commits, nor after calls whose changes were looked at and given up; nor for hosts that were left out."""
    database, ctx = started.__wrapped__()

    def change(txn: Txn, method: str, a: int, b: int, c: int) -> None:
        Client(txn, ctx).do(method, a, b, c)

    check_derived_again(database, calls, change, commit_every=8)


def check_vms(txn: Txn) -> None:
    domids: set[tuple[str, int]] = set()
    for vm in txn.all(VM):
        if vm.is_control_domain:
            continue
        live = vm.power_state in LIVE
        assert live == (not is_null(vm.resident_on)) == (vm.domid > 0), vm
        assert not live or (vm.resident_on, vm.domid) not in domids
        domids.add((vm.resident_on, vm.domid))
        attached = [vif for vif in txn.where(VIF, VM=vm.ref) if vif.currently_attached]
        assert not attached or vm.power_state is not VmPowerState.HALTED


def check_pifs(txn: Txn) -> None:
    for host in txn.refs(Host):
        pifs = txn.where(PIF, host=host)
        assert sum(pif.management for pif in pifs) <= 1
        built = [
            pif.network for pif in pifs if not pif.physical
        ]  # a scan may put a NIC beside them (spec §8.5)
        assert len(set(built)) == len(built)
    for pif in txn.all(PIF):
        bond = txn.find(Bond, pif.bond_slave_of)
        assert is_null(pif.bond_slave_of) or bond is not None
        if bond is not None and txn.get(PIF, bond.master).currently_attached:
            assert not pif.currently_attached
        if pif.management:
            assert pif.currently_attached
    for vlan in txn.all(VLAN):
        untagged = txn.get(PIF, vlan.untagged_PIF)
        assert untagged.VLAN_master_of == vlan.ref
        assert vlan.tag == untagged.VLAN
        assert txn.get(PIF, vlan.tagged_PIF).host == untagged.host
    for tunnel in txn.all(Tunnel):
        # The PIF below may be destroyed, as in the reference; then the tunnel is down.
        assert txn.exists(PIF, tunnel.transport_PIF) or not txn.get(PIF, tunnel.access_PIF).currently_attached


def check_ports(txn: Txn) -> None:
    """Every attached VIF of a VM that runs has its port, unless its traffic is disabled; and nothing else has."""
    for host in txn.refs(Host):
        state = derive(txn, host)
        assert state == derive(txn, host)
        assert [b.name for b in state.bridges] == sorted(b.name for b in state.bridges)
        expected = set()
        for vm in txn.where(VM, resident_on=host):
            for vif in txn.where(VIF, VM=vm.ref):
                network = txn.get(Network, vif.network)
                mode = vif.locking_mode
                if mode is VifLockingMode.NETWORK_DEFAULT:
                    mode = VifLockingMode(network.default_locking_mode.value)
                if vif.currently_attached and mode is not VifLockingMode.DISABLED:
                    expected.add(vif.uuid)
        assert {port.vif_uuid for port in state.ports} == expected
        if host == LOCAL:
            assert bool(state.management_bridge) == any(p.management for p in txn.where(PIF, host=host))


def check_allowed_operations(client: Client) -> None:
    again = client.txn.nested()
    for ref in again.refs(VM):
        refresh_vm(again, ref)
    assert not again.changes()
