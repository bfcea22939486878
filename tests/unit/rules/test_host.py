from __future__ import annotations

import pytest

from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.task import Task
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import IpConfigurationMode, PrimaryAddressType, TaskStatusType
from poolnet.model.roles import Role
from poolnet.model.types import Ref
from poolnet.rules.context import Session
from tests.unit.rules.world import LOCAL, NOW, World, refused


@pytest.mark.parametrize("name", ["a.b-c", "HOST1", "a..b", ".a", "a."])
def test_hostnames_that_are_accepted(name: str) -> None:
    w = World.new()
    w.call("host.set_hostname_live", host=LOCAL, hostname=name)
    row = w.txn.get(Host, LOCAL)
    assert (row.hostname, row.name_label) == (name, "host1")
    assert w.txn.get(VM, row.control_domain).name_label == f"Control domain on host: {name}"
    assert w.ctx.hostname_changes == [(LOCAL, name)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "hostname empty"),
        ("a" * 256, "hostname is too long"),
        ("a" * 65, "hostname is too long"),
        ("-a", "hostname contains invalid characters"),
        ("a-", "hostname contains invalid characters"),
        ("a_b", "hostname contains invalid characters"),
        ("a b", "hostname contains invalid characters"),
        ("a\n", "hostname contains invalid characters"),
    ],
)
def test_hostnames_that_are_refused(name: str, reason: str) -> None:
    w = World.new()
    with refused("HOST_NAME_INVALID", reason):
        w.call("host.set_hostname_live", host=LOCAL, hostname=name)


def test_management_moves_to_an_interface_with_an_address() -> None:
    w = World.new()
    pif = w.nic_pif("eth1").ref
    w.pool(ha_enabled=True)
    with refused("HA_IS_ENABLED"):
        w.call("host.management_reconfigure", pif=pif)
    w.pool(ha_enabled=False)
    with refused("PIF_HAS_NO_NETWORK_CONFIGURATION", pif):
        w.call("host.management_reconfigure", pif=pif)
    w.txn.update(PIF, pif, primary_address_type=PrimaryAddressType.IPV6)
    with refused("PIF_HAS_NO_V6_NETWORK_CONFIGURATION", pif):
        w.call("host.management_reconfigure", pif=pif)
    w.txn.update(
        PIF,
        pif,
        primary_address_type=PrimaryAddressType.IPV4,
        ip_configuration_mode=IpConfigurationMode.STATIC,
        IP="10.0.0.9",
        netmask="255.255.255.0",
    )
    w.call("host.management_reconfigure", pif=pif)
    assert w.call("host.get_management_interface", host=LOCAL) == pif
    assert w.txn.get(Host, LOCAL).address == "10.0.0.9"
    assert (w.nic_pif("eth0").management, w.nic_pif("eth0").currently_attached) == (False, True)
    assert w.derive().management_bridge == "xenbr1"
    w.call("host.management_reconfigure", pif=pif)


def test_management_is_moved_on_the_console_only_when_there_is_none() -> None:
    w = World.new()
    eth1 = w.nic_pif("eth1").ref
    with refused("NOT_IN_EMERGENCY_MODE"):
        w.call("host.local_management_reconfigure", interface="xenbr1")
    w.call("host.management_disable")
    with refused("INVALID_VALUE", "interface", "nowhere"):
        w.call("host.local_management_reconfigure", interface="nowhere")
    with refused("PIF_HAS_NO_NETWORK_CONFIGURATION", eth1):
        w.call("host.local_management_reconfigure", interface="xenbr1")
    w.txn.update(
        PIF, eth1, ip_configuration_mode=IpConfigurationMode.STATIC, IP="10.0.0.9", netmask="255.255.255.0"
    )
    w.call("host.local_management_reconfigure", interface="xenbr1")
    assert w.call("host.get_management_interface", host=LOCAL) == eth1
    assert w.txn.get(Host, LOCAL).address == "10.0.0.9"


def test_management_is_moved_on_the_console_when_its_lease_is_lost() -> None:
    w = World.new()
    eth0 = w.nic_pif("eth0")
    w.txn.update(PIF, eth0.ref, IP="")
    w.call("host.signal_networking_change")
    w.call("host.local_management_reconfigure", interface="xenbr0")
    assert w.call("host.get_management_interface", host=LOCAL) == eth0.ref


def test_a_bonds_member_cannot_be_managed_by() -> None:
    w = World.new()
    pif = w.nic_pif("eth1").ref
    w.call("Bond.create", network=w.network(), members=(pif, w.nic_pif("eth2").ref), MAC="")
    with refused("CANNOT_PLUG_BOND_SLAVE", pif):
        w.call("host.management_reconfigure", pif=pif)


def test_management_can_be_switched_off() -> None:
    w = World.new()
    w.call("host.management_disable")
    assert w.txn.get(Host, LOCAL).address == ""
    assert w.derive().management_bridge == ""
    with refused("INTERNAL_ERROR", "Not_found"):
        w.call("host.get_management_interface", host=LOCAL)
    other = w.host()
    w.pool(master=other)
    with refused("SLAVE_REQUIRES_MANAGEMENT_INTERFACE"):
        w.call("host.management_disable")


def test_resetting_the_network_forgets_what_is_built_on_nics() -> None:
    w = World.new()
    w.vlan(w.nic_pif("eth2").ref, 5)
    w.call(
        "Bond.create",
        network=w.network(),
        members=(w.nic_pif("eth1").ref, w.nic_pif("eth2").ref),
        MAC="",
    )
    w.call("host.reset_networking", host=LOCAL)
    assert w.txn.count(PIF) == 0
    assert w.txn.count(VLAN) == 0
    assert w.derive().bridges == ()


def test_a_list_of_bridges_says_which_pifs_are_attached() -> None:
    w = World.new()
    w.call("host.sync_pif_currently_attached", host=LOCAL, bridges=("xenbr1",))
    assert {p.device for p in w.txn.all(PIF) if p.currently_attached} == {"eth1"}


def test_old_tls_does_not_come_back() -> None:
    w = World.new()
    w.call("host.set_ssl_legacy", self=LOCAL, value=False)
    with refused("VALUE_NOT_SUPPORTED", "value", "true", "Legacy SSL support has been removed"):
        w.call("host.set_ssl_legacy", self=LOCAL, value=True)


def test_clients_drive_their_own_tasks() -> None:
    w = World.new()
    w.as_session(Session(user="a", is_superuser=False, role=Role.VM_OPERATOR, ref=Ref("OpaqueRef:s1")))
    task = w.call("task.create", label="l", description="d")
    w.call("task.set_progress", self=task, value=0.5)
    w.call("task.destroy", self=task)
    assert w.txn.get(Task, task).current_operations
    w.call("task.set_status", self=task, value=TaskStatusType.SUCCESS)
    assert w.txn.get(Task, task).finished == NOW
    w.call("task.set_status", self=task, value=TaskStatusType.FAILURE)
    assert w.txn.get(Task, task).status is TaskStatusType.SUCCESS
    w.as_session(Session(user="b", is_superuser=False, role=Role.VM_OPERATOR, ref=Ref("OpaqueRef:s2")))
    text = "No permission in user session. (Roles with this permission: pool-admin, pool-operator)"
    with refused("RBAC_PERMISSION_DENIED", "task.destroy_any", text):
        w.call("task.destroy", self=task)
    w.as_session(Session(user="c", is_superuser=False, role=Role.POOL_OPERATOR, ref=Ref("OpaqueRef:s3")))
    w.call("task.destroy", self=task)
    assert not w.txn.exists(Task, task)
