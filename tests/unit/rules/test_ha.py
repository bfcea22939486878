"""What high availability needs, what it plans and restarts, and what is refused while it is on (spec §22)."""

from __future__ import annotations

import pytest

from poolnet.hostnet.facts import GuestFacts, HostFacts
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.message import Message
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import BondMode, IpConfigurationMode, PrimaryAddressType, VmPowerState
from poolnet.model.types import NULL, Ref
from poolnet.rules import ha, ha_plan, startup, vm_power
from tests.unit.rules.world import LOCAL, World, facts_with, refused

MEMORY = 256 << 20


def pool_of(w: World) -> Pool:
    return next(iter(w.txn.all(Pool)))


def servers_of(count: int) -> frozenset[str]:
    """A cluster of so many servers; whose they are does not matter here."""
    return frozenset(f"server{number}" for number in range(count))


def of_three(*, enabled: bool = True, servers: int = 3) -> World:
    """A pool of three hosts whose database is on a cluster."""
    w = World.new()
    w.ctx.servers = servers_of(servers)
    for _ in range(2):
        w.host(nics=3)
    if enabled:
        ha.enabled(w.ctx)
    return w


def protected() -> World:
    """A pool of two hosts that says that it has high availability."""
    w = World.new()
    w.host()
    w.txn.update(Pool, pool_of(w).ref, ha_enabled=True)
    return w


def ready(w: World, **configuration: str) -> int:
    return ha.require_ready(w.ctx, heartbeat_srs=(), configuration=configuration)


def running(w: World, host: Ref[Host] = LOCAL, priority: str = "restart", **fields: object) -> Ref[VM]:
    """A VM that runs on the network of `eth1`."""
    vm = w.vm(**fields)
    w.vif(vm, w.nic_network("eth1"))
    w.call("VM.set_ha_restart_priority", self=vm, value=priority)
    w.call("VM.start_on", vm=vm, host=host, start_paused=False, force=False)
    return vm


def alerts(w: World) -> list[str]:
    return [alert.name for alert in w.txn.all(Message)]


def tolerate(w: World, failures: int) -> None:
    w.call("pool.set_ha_host_failures_to_tolerate", self=pool_of(w).ref, value=failures)


# --- turning it on and off -------------------------------------------------------------------------------------


def test_it_says_what_it_needs() -> None:
    w = of_three(enabled=False, servers=0)
    with refused("NO_COMPATIBLE_CLUSTER_HOST", LOCAL):
        ready(w)
    w.ctx.servers = servers_of(3)
    assert ready(w) == 30
    assert ready(w, timeout="12") == 12


@pytest.mark.parametrize("text", ["", "x", "4", "601", "1e2", "-7", "٣٠", "99999999999999999999"])
def test_a_timeout_that_is_none_is_refused(text: str) -> None:
    with refused("INVALID_VALUE", "configuration:timeout", text):
        ready(of_three(enabled=False), timeout=text)


def test_a_host_that_is_down_and_restrictions_refuse_it() -> None:
    w = of_three(enabled=False)
    other = next(host for host in w.txn.all(Host) if host.ref != LOCAL)
    w.txn.update(HostMetrics, other.metrics, live=False)
    with refused("HOST_OFFLINE", other.ref):
        ready(w)
    w.txn.update(Pool, pool_of(w).ref, restrictions={**pool_of(w).restrictions, "enable_xha": "false"})
    with refused("LICENCE_RESTRICTION", "HA"):
        ready(w)


def test_pifs_that_must_not_be_unplugged_have_to_be_up() -> None:
    w = of_three(enabled=False)
    down = [w.nic_pif(device) for device in ("eth1", "eth2")]
    for pif in down:
        w.call("PIF.set_disallow_unplug", self=pif.ref, value=True)
        w.txn.update(PIF, pif.ref, currently_attached=False)
    with refused("REQUIRED_PIF_IS_UNPLUGGED", *(pif.ref for pif in down)):
        ready(w)


def test_more_failures_than_the_cluster_bears_have_no_plan() -> None:
    w = of_three(enabled=False)
    tolerate(w, 2)
    with refused("HA_NO_PLAN"):
        ready(w)
    w.txn.update(Pool, pool_of(w).ref, ha_allow_overcommit=True)
    ready(w)
    ha.enabled(w.ctx)
    assert (pool_of(w).ha_plan_exists_for, pool_of(w).ha_overcommitted) == (1, True)
    assert alerts(w) == ["HA_POOL_OVERCOMMITTED"]


def test_twice_is_refused_and_turned_off_it_leaves_nothing() -> None:
    w = of_three(enabled=False)
    before = pool_of(w), w.txn.get(Host, LOCAL)
    ha.forming(w.txn, {"timeout": "30"})
    ha.enabled(w.ctx)
    pool = pool_of(w)
    assert (pool.ha_enabled, pool.ha_cluster_stack, dict(pool.ha_configuration)) == (
        True,
        "raft",
        {"timeout": "30"},
    )
    assert len(w.txn.get(Host, LOCAL).ha_network_peers) == 2
    with refused("HA_IS_ENABLED"):
        ready(w)
    ha.disabled(w.txn)
    assert (pool_of(w), w.txn.get(Host, LOCAL)) == before


def test_vms_that_run_are_protected_when_it_is_turned_on_and_halted_ones_are_not_started() -> None:
    w = of_three(enabled=False)
    vm, halted = running(w), w.vm()
    w.txn.update(VM, halted, ha_restart_priority="restart", ha_always_run=True)
    ha.enabled(w.ctx)
    assert w.txn.get(VM, vm).ha_always_run
    assert not w.txn.get(VM, halted).ha_always_run


def test_interfaces_with_addresses_that_may_be_unplugged_are_an_alert() -> None:
    w = of_three(enabled=False)
    pif = w.nic_pif("eth1")
    w.txn.update(PIF, pif.ref, ip_configuration_mode=IpConfigurationMode.DHCP)
    ha.enabled(w.ctx)
    (alert,) = w.txn.all(Message)
    assert alert.name == "IP_CONFIGURED_PIF_CAN_UNPLUG"
    assert alert.body.splitlines()[1] == f"host1: eth1 (uuid: {pif.uuid})"


# --- plans -----------------------------------------------------------------------------------------------------


def test_a_cluster_of_three_bears_one_failure_and_of_five_two() -> None:
    w = of_three()
    assert w.call("pool.ha_compute_max_host_failures_to_tolerate") == 1
    assert w.call("pool.ha_failover_plan_exists", n=1)
    assert not w.call("pool.ha_failover_plan_exists", n=2)
    w.ctx.servers = servers_of(5)
    assert w.call("pool.ha_compute_max_host_failures_to_tolerate") == 2
    with refused("HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN"):
        tolerate(w, 3)
    with refused("INVALID_VALUE", "ha_host_failures_to_tolerate", "-1"):
        tolerate(w, -1)


def with_memory(w: World, of_vms: int) -> None:
    """Each host has memory for so many VMs."""
    for metrics in w.txn.all(HostMetrics):
        w.txn.update(HostMetrics, metrics.ref, memory_total=of_vms * MEMORY)


def test_what_would_leave_too_little_room_is_refused() -> None:
    w = of_three()
    others = [host.ref for host in w.txn.all(Host) if host.ref != LOCAL]
    with_memory(w, 2)
    for host in (LOCAL, LOCAL, others[0]):
        running(w, host)
    tolerate(w, 1)
    assert pool_of(w).ha_plan_exists_for == 1
    plan = w.call("pool.ha_compute_vm_failover_plan", failed_hosts=(LOCAL,), failed_vms=())
    assert len(plan) == 2
    assert {where["host"] for where in plan.values()} <= set(others)
    running(w, others[0], priority="")
    with refused("HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN"):
        running(w, others[1])
    with refused("HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN"):
        w.call("host.disable", host=others[1])
    assert w.txn.get(Host, others[1]).enabled
    w.txn.update(Pool, pool_of(w).ref, ha_allow_overcommit=True)
    w.call("host.disable", host=others[1])
    ha.refresh_plan(w.ctx)
    assert (pool_of(w).ha_plan_exists_for, pool_of(w).ha_overcommitted) == (0, True)
    plan = w.call("pool.ha_compute_vm_failover_plan", failed_hosts=(LOCAL,), failed_vms=())
    assert {tuple(where.items()) for where in plan.values()} == {(("error_code", "HA_NO_PLAN"),)}


def test_hypothetical_priorities_change_nothing() -> None:
    w = of_three()
    with_memory(w, 1)
    vms = [running(w, host.ref, priority="") for host in tuple(w.txn.all(Host))]
    method = "pool.ha_compute_hypothetical_max_host_failures_to_tolerate"
    assert w.call(method, configuration=dict.fromkeys(vms, "best-effort")) == 1
    assert w.call(method, configuration={vms[0]: "restart"}) == 0
    with refused("INVALID_VALUE", "ha_restart_priority", "soon"):
        w.call(method, configuration={vms[0]: "soon"})
    assert w.call("pool.ha_compute_max_host_failures_to_tolerate") == 1


def test_a_vm_is_protected_only_on_networks_that_all_hosts_have() -> None:
    w = of_three()
    vm = w.vm()
    w.vif(vm, w.network())
    with refused("HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED", w.txn.where(VIF, VM=vm)[0].network):
        w.call("VM.set_ha_restart_priority", self=vm, value="restart")
    w.call("VM.set_ha_restart_priority", self=vm, value="best-effort")
    w.txn.update(Pool, pool_of(w).ref, ha_allow_overcommit=True)
    w.call("VM.set_ha_restart_priority", self=vm, value="restart")


# --- which VMs are to run --------------------------------------------------------------------------------------


def test_a_vm_is_kept_running_from_its_start_until_somebody_shuts_it_down() -> None:
    w = of_three()
    vm = running(w)
    assert w.txn.get(VM, vm).ha_always_run
    w.call("VM.hard_shutdown", vm=vm)
    assert not w.txn.get(VM, vm).ha_always_run
    w.call("VM.start_on", vm=vm, host=LOCAL, start_paused=False, force=False)
    w.call("VM.set_ha_restart_priority", self=vm, value="")
    assert not w.txn.get(VM, vm).ha_always_run
    w.call("VM.set_ha_restart_priority", self=vm, value="restart")
    assert w.txn.get(VM, vm).ha_always_run
    w.call("VM.suspend", vm=vm)
    assert not w.txn.get(VM, vm).ha_always_run


@pytest.mark.parametrize(
    ("priority", "restarts_from_inside", "fenced", "again"),
    [
        ("restart", True, False, True),
        ("restart", False, False, False),
        ("restart", False, True, True),
        ("best-effort", True, False, False),
        ("best-effort", True, True, True),
        ("", True, True, False),
    ],
)
def test_a_guest_that_has_ended(
    priority: str, *, restarts_from_inside: bool, fenced: bool, again: bool
) -> None:
    w = of_three()
    w.txn.update(Pool, pool_of(w).ref, ha_reboot_vm_on_internal_shutdown=restarts_from_inside)
    vm = running(w, priority=priority)
    w.ctx.facts = {LOCAL: facts_with() if not fenced else fenced_facts()}
    vm_power.guest_ended(w.ctx, vm=vm, domid=w.txn.get(VM, vm).domid)
    assert w.txn.get(VM, vm).power_state is VmPowerState.HALTED
    assert [each.ref for each in ha_plan.to_restart(w.txn)] == ([vm] if again else [])


def fenced_facts() -> HostFacts:
    return HostFacts(hostname="host1", fenced=True)


def test_without_it_nothing_is_restarted() -> None:
    w = of_three(enabled=False)
    vm = running(w)
    vm_power.guest_ended(w.ctx, vm=vm, domid=w.txn.get(VM, vm).domid)
    assert not ha_plan.to_restart(w.txn)


def test_a_lost_host_runs_nothing_and_its_vms_wait_in_their_order() -> None:
    w = of_three()
    there = next(host.ref for host in w.txn.all(Host) if host.ref != LOCAL)
    slow, fast, may, no = (
        running(w, there, priority) for priority in ("restart", "restart", "best-effort", "")
    )
    w.call("VM.set_order", self=slow, value=2)
    w.call("VM.set_order", self=fast, value=1)
    vms = ha.resident(w.txn, there)
    moved = running(w, there)
    w.call("VM.pool_migrate", vm=moved, host=LOCAL, options={})
    assert ha.lost(w.ctx, host=there, vms=(*vms, (moved, 99))) == 4
    assert w.txn.get(VM, moved).resident_on == LOCAL
    assert [vm.ref for vm in ha_plan.to_restart(w.txn)] == [fast, slow, may]
    assert w.txn.get(VM, no).power_state is VmPowerState.HALTED
    assert alerts(w) == ["HA_HOST_FAILED"]
    with refused("HOST_NOT_LIVE"):
        ha.restart(w.ctx, vm=slow, host=there)
    mac = w.txn.where(VIF, VM=slow)[0].MAC
    for vm in (fast, slow, may):
        ha.restart(w.ctx, vm=vm, host=LOCAL)
        assert w.txn.get(VM, vm).resident_on == LOCAL
    assert mac == w.txn.where(VIF, VM=slow)[0].MAC
    assert w.txn.get(VM, slow).ha_always_run
    assert not w.txn.get(VM, may).ha_always_run
    assert not ha_plan.to_restart(w.txn)
    domid = w.txn.get(VM, fast).domid
    ha.restart(w.ctx, vm=fast, host=LOCAL)
    assert w.txn.get(VM, fast).domid == domid
    assert ha.lost(w.ctx, host=there, vms=vms) == 0


def test_a_host_that_comes_back_without_its_guests_has_them_restarted_and_with_them_has_not() -> None:
    w = of_three()
    vms = {priority: running(w, priority=priority) for priority in ("restart", "best-effort", "")}
    kept = running(w)
    guest = GuestFacts(vm_uuid=w.txn.get(VM, kept).uuid, domid=w.txn.get(VM, kept).domid, state="running")
    startup.resync(w.ctx, facts_with(guests=(guest,)))
    assert [vm.ref for vm in ha_plan.to_restart(w.txn)] == [vms["restart"], vms["best-effort"]]
    assert w.txn.get(VM, kept).power_state is VmPowerState.RUNNING


# --- what is refused while it is on ----------------------------------------------------------------------------


def test_a_host_whose_nic_is_a_bonds_is_not_enabled_for_protected_vms() -> None:
    w = of_three()
    there = next(host.ref for host in w.txn.all(Host) if host.ref != LOCAL)
    running(w)
    w.call("host.disable", host=there)
    pif = w.pif_of(there, w.nic_network("eth1"))
    bond_of = w.txn.create(Bond(ref=w.ctx.new_ref(), uuid=w.ctx.new_uuid(), master=pif.ref))
    w.txn.update(PIF, pif.ref, bond_slave_of=bond_of)
    with refused("HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED", pif.network):
        w.call("host.enable", host=there)
    w.txn.update(PIF, pif.ref, bond_slave_of=NULL)
    w.call("host.enable", host=there)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("PIF.unplug", {}),
        ("PIF.forget", {}),
        (
            "PIF.reconfigure_ip",
            {"mode": IpConfigurationMode.DHCP, "IP": "", "netmask": "", "gateway": "", "DNS": ""},
        ),
        ("PIF.set_primary_address_type", {"primary_address_type": PrimaryAddressType.IPV6}),
    ],
)
def test_addresses_and_attached_pifs_stay_as_they_are(method: str, arguments: dict[str, object]) -> None:
    w = protected()
    pif = w.nic_pif("eth1")
    with refused("HA_IS_ENABLED"):
        w.call(method, self=pif.ref, **arguments)
    assert w.nic_pif("eth1") == pif


def test_management_stays_where_it_is() -> None:
    w = protected()
    pif = w.nic_pif("eth1")
    w.txn.update(PIF, pif.ref, ip_configuration_mode=IpConfigurationMode.DHCP)
    with refused("HA_IS_ENABLED"):
        w.call("host.management_reconfigure", pif=pif.ref)
    with refused("HA_IS_ENABLED"):
        w.call("host.management_disable")
    with refused("HA_IS_ENABLED"):
        w.call("pool.management_reconfigure", network=pif.network)


def bond(w: World, *devices: str) -> None:
    w.call(
        "Bond.create",
        network=w.network(),
        members=tuple(w.nic_pif(device).ref for device in devices),
        MAC="",
        mode=BondMode.ACTIVE_BACKUP,
        properties={},
    )


def test_bonds_of_the_management_interface_are_refused_and_others_are_not() -> None:
    w = protected()
    with refused("HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE"):
        bond(w, "eth0", "eth1")
    bond(w, "eth1", "eth2")


def test_what_adds_is_allowed_and_what_takes_an_attached_vlan_is_not() -> None:
    w = protected()
    network: Ref[Network] = w.network()
    vlan = w.vlan(w.nic_pif("eth1").ref, 20, network)
    with refused("HA_IS_ENABLED"):
        w.call("VLAN.destroy", self=vlan)
    w.txn.update(PIF, w.txn.get(VLAN, vlan).untagged_PIF, currently_attached=False)
    w.call("VLAN.destroy", self=vlan)
    w.call("network.destroy", self=network)
    assert w.txn.get(Host, LOCAL).enabled
