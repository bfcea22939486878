"""What of a host's locks is written to VIFs and told to people; and who may have a lock only count."""

from __future__ import annotations

import pytest

from poolnet.hostnet.facts import PortFacts
from poolnet.hostnet.protocol import LocksSeen, Offence
from poolnet.model.classes.host import Host
from poolnet.model.classes.message import Message
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VifLockingMode
from poolnet.model.roles import Role
from poolnet.model.types import Ref
from poolnet.rules.context import Session
from poolnet.rules.lock_evidence import record_locks
from tests.unit.rules.world import LOCAL, NOW, World, refused

KEY = "lock-shadow"
OPERATORS = "No permission in user session. (Roles with this permission: pool-admin, pool-operator)"


def plugged() -> tuple[World, Ref[VIF], str]:
    """A running VM with a locked VIF, and the name of its port."""
    w = World.new()
    vm = w.vm(name_label="VM-c")
    vif = w.vif(vm, w.nic_network("eth1"), locking_mode=VifLockingMode.LOCKED, ipv4_allowed=("10.0.0.1",))
    w.start(vm)
    return w, vif, f"vif{w.txn.get(VM, vm).domid}.0"


def record(w: World, seen: LocksSeen) -> list[tuple[str, str]]:
    """Lets a host report; name and text of all alerts afterwards."""
    record_locks(w.txn, LOCAL, seen, NOW, w.ctx.new_uuid)
    return [(alert.name, alert.body) for alert in w.txn.all(Message)]


def test_counters_are_properties_of_the_vif_and_those_of_zero_are_none() -> None:
    w, vif, device = plugged()
    facts = PortFacts(device=device, dropped=(("arp", 3), ("mac", 2), ("vlan", 0)), shadowed=(("mac", 1),))
    assert record(w, LocksSeen(ports=(facts,))) == []
    assert w.txn.get(VIF, vif).runtime_properties == {
        "lock-dropped": "5",
        "lock-dropped-arp": "3",
        "lock-dropped-mac": "2",
        "lock-would-drop": "1",
        "lock-would-drop-mac": "1",
    }
    record(w, LocksSeen(ports=(PortFacts(device=device, dropped=(("arp", 0),)),)))
    assert w.txn.get(VIF, vif).runtime_properties == {}


def test_who_did_what_is_an_alert_about_the_vm() -> None:
    w, vif, device = plugged()
    offences = (
        Offence(device=device, reason="arp", did="sent ARP for 10.0.0.2", count=1),
        Offence(
            device=device, reason="mac", did="sent frames from MAC 02:00:00:00:00:09", count=4, shadow=True
        ),
        Offence(device="vif77.0", reason="arp", did="sent ARP for 10.0.0.3", count=1),  # a guest that is gone
    )
    uuid = w.txn.get(VIF, vif).uuid
    assert record(w, LocksSeen(offences=offences)) == [
        (
            "VIF_LOCK_VIOLATION",
            f"VIF 0 of VM-c sent ARP for 10.0.0.2; its lock stopped 1 frame (reason arp, VIF uuid: {uuid})",
        ),
        (
            "VIF_LOCK_VIOLATION",
            "VIF 0 of VM-c sent frames from MAC 02:00:00:00:00:09; its lock would have stopped 4 frames "
            f"(reason mac, VIF uuid: {uuid})",
        ),
    ]
    about = next(iter(w.txn.all(Message)))
    assert (about.cls, about.obj_uuid) == ("VM", w.txn.get(VM, w.txn.get(VIF, vif).VM).uuid)


def test_a_repair_is_an_alert_about_the_host() -> None:
    w, _, _ = plugged()
    assert record(w, LocksSeen(repaired=("flows were put back",))) == [
        ("VIF_LOCK_ALTERED", "flows were put back")
    ]
    about = next(iter(w.txn.all(Message)))
    assert (about.cls, about.obj_uuid) == ("Host", w.txn.get(Host, LOCAL).uuid)


def test_an_address_that_another_machine_has_is_an_alert_about_the_host() -> None:
    w, _, _ = plugged()
    text = "another machine (02:00:00:00:00:09) has the address 10.0.0.1 of xenbr0"
    assert record(w, LocksSeen(conflicts=(text,))) == [("HOST_ADDRESS_CONFLICT", text)]
    about = next(iter(w.txn.all(Message)))
    assert (about.cls, about.obj_uuid) == ("Host", w.txn.get(Host, LOCAL).uuid)


def test_shadow_mode_is_part_of_the_lock_that_the_host_gets() -> None:
    w, vif, _ = plugged()
    assert not w.derive().ports[0].lock.shadow
    w.call("VIF.add_to_other_config", self=vif, key=KEY, value="true")
    assert w.derive().ports[0].lock.shadow
    with refused("MAP_DUPLICATE_KEY", "VIF", "other_config", vif, KEY):
        w.call("VIF.add_to_other_config", self=vif, key=KEY, value="false")
    w.call("VIF.remove_from_other_config", self=vif, key=KEY)
    w.call("VIF.remove_from_other_config", self=vif, key=KEY)  # absent: no error
    assert not w.derive().ports[0].lock.shadow
    w.call("VIF.set_other_config", self=vif, value={KEY: "yes"})
    assert not w.derive().ports[0].lock.shadow
    w.call("VIF.set_other_config", self=vif, value={KEY: "true"})
    w.call("VIF.set_locking_mode", self=vif, value=VifLockingMode.UNLOCKED)
    assert not w.derive().ports[0].lock.shadow


def test_shadow_mode_takes_the_role_that_locks_take() -> None:
    w, vif, _ = plugged()
    vm = w.txn.get(VIF, vif).VM
    w.as_session(Session(user="eve", is_superuser=False, role=Role.VM_ADMIN))
    w.call("VIF.set_other_config", self=vif, value={"mtu": "1400"})
    w.call("VIF.add_to_other_config", self=vif, key="note", value="x")
    w.call("VIF.remove_from_other_config", self=vif, key="note")
    with refused("RBAC_PERMISSION_DENIED", f"vif.add_to_other_config/key:{KEY}", OPERATORS):
        w.call("VIF.add_to_other_config", self=vif, key=KEY, value="true")
    with refused("RBAC_PERMISSION_DENIED", f"vif.set_other_config/key:{KEY}", OPERATORS):
        w.call("VIF.set_other_config", self=vif, value={"mtu": "1400", KEY: "true"})
    with refused("RBAC_PERMISSION_DENIED", f"vif.create/key:{KEY}", OPERATORS):
        w.vif(vm, w.nic_network("eth1"), device="1", other_config={KEY: "true"})
    w.as_session(Session(user="op", is_superuser=False, role=Role.POOL_OPERATOR))
    w.call("VIF.add_to_other_config", self=vif, key=KEY, value="true")
    w.as_session(Session(user="eve", is_superuser=False, role=Role.VM_ADMIN))
    with refused("RBAC_PERMISSION_DENIED", f"vif.remove_from_other_config/key:{KEY}", OPERATORS):
        w.call("VIF.remove_from_other_config", self=vif, key=KEY)
    w.call("VIF.set_other_config", self=vif, value={KEY: "true"})  # what stays is no change


@pytest.mark.parametrize("mode", list(VifLockingMode))
def test_only_a_lock_can_be_in_shadow_mode(mode: VifLockingMode) -> None:
    w, vif, _ = plugged()
    w.call("VIF.set_other_config", self=vif, value={KEY: "true"})
    w.call("VIF.set_locking_mode", self=vif, value=mode)
    assert [port.lock.shadow for port in w.derive().ports] in ([], [mode is VifLockingMode.LOCKED])
