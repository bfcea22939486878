from __future__ import annotations

from dataclasses import replace

import msgspec

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.hostnet.facts import GuestFacts
from poolnet.hostnet.protocol import Greeting
from poolnet.hostnet.state import Ipv4Mode
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.role import RoleRecord
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import IpConfigurationMode, VmPowerState
from poolnet.rules import startup
from poolnet.rules.role import role_ref
from tests.unit.rules.world import GREETING, LOCAL, MANAGEMENT, World, facts_with


def test_a_first_start_gives_every_nic_its_network_and_pif() -> None:
    w = World.new(nics=2)
    labels = {n.name_label: n.bridge for n in w.txn.all(Network)}
    assert labels == {
        "Pool-wide network associated with eth0": "xenbr0",
        "Pool-wide network associated with eth1": "xenbr1",
        "Host internal management network": "xenapi",
    }
    assert all(p.currently_attached and p.physical for p in w.txn.all(PIF))
    assert w.nic_pif("eth0").MAC == "52:54:00:00:00:00"
    assert w.nic_pif("eth0").properties == {"gro": "on"}


def test_a_first_start_makes_the_chosen_nic_the_management_interface() -> None:
    w = World.new()
    pif = w.nic_pif("eth0")
    assert pif.management
    assert pif.ip_configuration_mode is IpConfigurationMode.STATIC
    assert (pif.IP, pif.netmask, pif.gateway, pif.DNS) == (
        "192.0.2.10",
        "255.255.255.0",
        "192.0.2.1",
        "192.0.2.53",
    )
    assert w.txn.get(Host, LOCAL).address == "192.0.2.10"
    assert w.derive().management_bridge == "xenbr0"
    bridge = w.derive().bridge("xenbr0")
    assert bridge is not None
    assert bridge.ip.ipv4_mode is Ipv4Mode.STATIC
    assert bridge.ip.ipv4_gateway == "192.0.2.1"


def test_a_management_vlan_is_made_at_the_first_start() -> None:
    greeting = replace_management(vlan_tag=42)
    w = World.new(greeting=greeting)
    pif = next(p for p in w.txn.all(PIF) if p.management)
    assert (pif.VLAN, pif.device) == (42, "eth0")
    bridge = next(b for b in w.derive().bridges if b.vlan_tag == 42)
    assert bridge.parent == "xenbr0"
    assert bridge.ip.ipv4_address == "192.0.2.10/24"
    parent = w.derive().bridge("xenbr0")
    assert parent is not None
    assert parent.ip.ipv4_mode is Ipv4Mode.NONE


def replace_management(vlan_tag: int) -> Greeting:
    management = msgspec.structs.replace(MANAGEMENT, vlan_tag=vlan_tag)
    return msgspec.structs.replace(GREETING, management=management)


def test_a_first_start_can_be_committed() -> None:
    database = Database.open(MemoryEngine())
    context = replace(World.new().ctx, txn=database.begin())
    startup.first_boot(context, "11111111-1111-1111-1111-111111111111", GREETING, facts_with())
    database.commit_now(context.txn.changes())
    assert database.view.count(Pool) == 1
    assert database.view.get(Host, LOCAL).control_domain
    database.close()


def test_roles_hold_the_permissions_of_the_roles_below() -> None:
    w = World.new()
    held = {name: set(w.txn.get(RoleRecord, role_ref(name)).subroles) for name in ("pool-admin", "read-only")}
    assert held["read-only"] < held["pool-admin"]
    assert role_ref("pool-admin") == "OpaqueRef:0165f154-ba3e-034e-6b27-5d271af109ba"
    holders = w.call("role.get_by_permission_name_label", label="vif.set_locking_mode")
    assert {w.txn.get(RoleRecord, ref).name_label for ref in holders} == {"pool-admin", "pool-operator"}


def test_a_restart_of_the_server_leaves_running_vms_alone() -> None:
    w = World.new()
    vm = w.vm()
    vif = w.vif(vm, w.network())
    w.start(vm)
    before = w.derive()
    row = w.txn.get(VM, vm)
    guest = GuestFacts(vm_uuid=row.uuid, domid=row.domid, state="running")
    startup.resync(w.ctx, facts_with(guests=(guest,)))
    assert w.txn.get(VM, vm).power_state is VmPowerState.RUNNING
    assert w.txn.get(VIF, vif).currently_attached
    assert w.derive() == before
    assert w.ctx.counters.take_domid(LOCAL) == row.domid + 1


def test_a_restart_of_the_host_halts_the_vms_that_ran_there() -> None:
    w = World.new()
    vm = w.vm()
    vif = w.vif(vm, w.network())
    w.start(vm)
    startup.resync(w.ctx, facts_with())
    row = w.txn.get(VM, vm)
    assert (row.power_state, row.domid) == (VmPowerState.HALTED, -1)
    assert not w.txn.get(VIF, vif).currently_attached
    assert w.derive().ports == ()
    assert w.derive().management_bridge == "xenbr0"


def test_a_guest_that_no_vm_accounts_for_is_removed() -> None:
    w = World.new()
    w.new_actions()
    stray = GuestFacts(vm_uuid="22222222-2222-2222-2222-222222222222", domid=7, state="running")
    startup.resync(w.ctx, facts_with(guests=(stray,)))
    assert w.new_actions() == [("before", "DestroyGuest")]


def test_a_second_resync_changes_nothing() -> None:
    w = World.new()
    startup.resync(w.ctx, facts_with())
    once = replace(w.ctx, txn=w.txn.nested())
    startup.resync(once, facts_with())
    assert not once.txn.changes()
