"""Which messages can be undone? Every message of a rule is tried, or is among those that concern more than the configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from poolnet.api.auditing import _kind, reads
from poolnet.api.surface import implemented
from poolnet.api.wire import Wire
from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.role import RoleRecord
from poolnet.model.classes.vm import VM
from poolnet.model.declare import REMOVED
from poolnet.model.registry import MESSAGES
from poolnet.model.types import NULL
from tests.in_process import FACTS, InProcess, login_as, with_server
from tests.unit.api.test_audit_undo import last_entry, state
from tests.unit.api.test_cli_calls import xe
from tests.unit.api.test_dispatch import call, refused, value
from tests.unit.db.rows import a_ref, a_uuid
from tests.unit.pool.test_virtual_functions import FULL


@dataclass
class World:
    """A server, a superuser's session, and what there is to change."""

    server: InProcess
    session: str

    async def do(self, method: str, *args: Wire) -> Any:
        return value(await call(self.server, method, self.session, *args))

    def one(self, cls: type[Any], **fields: Any) -> str:
        """The only object like that."""
        (row,) = self.server.database.view.where(cls, **fields)
        return str(row.ref)

    @property
    def host(self) -> str:
        return self.one(Host)

    @property
    def pool(self) -> str:
        return self.one(Pool)

    def pif(self, device: str = "eth1") -> str:
        return self.one(PIF, device=device, physical=True)

    def network_of(self, device: str) -> str:
        return str(self.server.database.view.get(PIF, self.pif(device)).network)  # type: ignore[arg-type]  # a reference all the same

    async def network(self, **fields: Any) -> str:
        record: dict[str, Any] = {
            "name_label": "n",
            "name_description": "",
            "MTU": "1500",
            "other_config": {},
        }
        record |= {"bridge": "", "managed": True, "tags": [], "default_locking_mode": "unlocked", **fields}
        return str(await self.do("network.create", record))

    async def vm(self) -> str:
        made = await self.do("VM.clone", await self._first_vm(), "vm")
        return str(made)

    async def _first_vm(self) -> str:
        done = await xe(self.server, "vm-create", "name-label=first")
        return str(self.server.database.view.by_uuid(VM, done.out.strip()).ref)

    async def vif(self) -> str:
        record: dict[str, Any] = {
            "device": "0",
            "network": await self.network(),
            "VM": await self.vm(),
            "MAC": "",
            "MTU": "1500",
        }
        record |= {"other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}}
        record |= {"locking_mode": "network_default", "ipv4_allowed": [], "ipv6_allowed": []}
        return str(await self.do("VIF.create", record))


Arguments = tuple[Wire, ...]
Prepare = Callable[[World], Awaitable[Arguments]]


def of_vm(*rest: Wire) -> Prepare:
    async def prepare(world: World) -> Arguments:
        return (await world.vm(), *rest)

    return prepare


def of_vif(*rest: Wire) -> Prepare:
    async def prepare(world: World) -> Arguments:
        return (await world.vif(), *rest)

    return prepare


def after(first: str, *rest: Wire, of: Prepare) -> Prepare:
    """The same object, after another call about it."""

    async def prepare(world: World) -> Arguments:
        (ref, *_) = await of(world)
        await world.do(first, ref, *rest)
        return (ref,)

    return prepare


def fixed(*args: Wire) -> Prepare:
    async def prepare(_: World) -> Arguments:
        return args

    return prepare


async def host(world: World) -> Arguments:
    return (world.host,)


async def nic(world: World) -> Arguments:
    return (world.pif(),)


def of(prepare: Prepare, *rest: Wire) -> Prepare:
    """What that prepares, and more."""

    async def more(world: World) -> Arguments:
        return (*await prepare(world), *rest)

    return more


async def pool(world: World) -> Arguments:
    return (world.pool,)


async def nic_forgotten(world: World) -> Arguments:
    await world.do("PIF.forget", world.pif())
    return (world.host,)


async def vlan(world: World) -> Arguments:
    return (await world.do("PIF.create_VLAN", "eth1", await world.network(), world.host, "7"),)


async def new_vlan(world: World) -> Arguments:
    return ("eth1", await world.network(), world.host, "7")


async def new_vlans(world: World) -> Arguments:
    return ("eth1", await world.network(), "7")


async def new_vlans_of_pif(world: World) -> Arguments:
    return (world.pif(), await world.network(), "7")


async def new_pif(world: World) -> Arguments:
    settings: Arguments = (
        "02:00:00:00:00:09",
        "1500",
        "-1",
        True,
        "None",
        "",
        "",
        "",
        "",
        NULL,
        NULL,
        False,
        {},
    )
    return ("eth9", await world.network(), world.host, *settings)


async def nbd_network(world: World) -> Arguments:
    made = await world.network()
    await world.do("network.add_purpose", made, "nbd")
    return (made, "nbd")


async def new_alert(world: World) -> Arguments:
    return ("a", "3", "Pool", next(iter(world.server.database.view.all(Pool))).uuid, "b")


async def alert(world: World) -> Arguments:
    return (await world.do("message.create", *await new_alert(world)),)


async def alerts(world: World) -> Arguments:
    return ([*await alert(world)],)


async def all_alerts(world: World) -> Arguments:
    await alert(world)
    return ({},)


SUBJECT: Final[Wire] = {"subject_identifier": "u1", "other_config": {"subject-name": "a"}}


async def subject(world: World) -> Arguments:
    return (await world.do("subject.create", SUBJECT),)


async def subject_with_role(world: World) -> Arguments:
    (made,) = await subject(world)
    return (made, world.one(RoleRecord, name_label="pool-admin"))


async def subject_without_role(world: World) -> Arguments:
    made, role = await subject_with_role(world)
    await world.do("subject.remove_from_roles", made, role)
    return (made, role)


async def host_with_directory(world: World) -> Arguments:
    await world.do("host.enable_external_auth", world.host, {}, "s", "PAM")
    return (world.host, {})


async def pool_with_directory(world: World) -> Arguments:
    await world.do("pool.enable_external_auth", world.pool, {}, "s", "PAM")
    return (world.pool, {})


async def nic_with_address(world: World) -> Arguments:
    static = ("Static", "198.51.100.4", "255.255.255.0", "", "")
    await world.do("PIF.reconfigure_ip", world.pif(), *static)
    return (world.pif(),)


async def network_with_address(world: World) -> Arguments:
    await nic_with_address(world)
    return (world.network_of("eth1"),)


async def new_bonds(world: World) -> Arguments:
    return (await world.network(), [world.pif("eth0"), world.pif()], "active-backup", {})


async def nic_with_functions(world: World) -> Arguments:
    nics = tuple(
        replace(nic, pci_bus_path="0000:01:00.0", sriov=FULL) if nic.name == "eth1" else nic
        for nic in FACTS.nics
    )
    world.server.host.reported = replace(FACTS, nics=nics)
    await world.do("PIF.scan", world.host)
    return (world.pif(), await world.network())


async def functions_of_nic(world: World) -> Arguments:
    return (await world.do("network_sriov.create", *await nic_with_functions(world)),)


async def storage(world: World) -> Arguments:
    uuid = "11111111-1111-4111-8111-111111111111"
    return (await world.do("SR.introduce", uuid, "n", "", "nfs", "user", True, {}),)


async def new_plug(world: World) -> Arguments:
    (sr,) = await storage(world)
    config: Wire = {"server": "192.0.2.7", "serverpath": "/x"}
    return ({"host": world.host, "SR": sr, "device_config": config, "other_config": {}},)


async def plug(world: World) -> Arguments:
    return (await world.do("PBD.create", *await new_plug(world)),)


VM_OF_4: Final = after("VM.set_memory_limits", "0", str(1 << 32), str(1 << 30), str(1 << 32), of=of_vm())
UNDONE: Final[Mapping[str, Prepare]] = {
    "VM.add_to_NVRAM": of_vm("a", "b"),
    "VM.set_NVRAM": of_vm({"a": "b"}),
    "VM.remove_from_NVRAM": of(after("VM.add_to_NVRAM", "a", "b", of=of_vm()), "a"),
    "VM.add_to_blocked_operations": of_vm("start", "x"),
    "VM.set_blocked_operations": of_vm({"start": "x"}),
    "VM.remove_from_blocked_operations": of(
        after("VM.add_to_blocked_operations", "start", "x", of=of_vm()), "start"
    ),
    "VM.add_to_platform": of_vm("a", "b"),
    "VM.set_platform": of_vm({"a": "b"}),
    "VM.remove_from_platform": of(after("VM.add_to_platform", "a", "b", of=of_vm()), "a"),
    "VM.set_other_config": of_vm({"a": "b"}),
    "VM.remove_from_other_config": of(after("VM.add_to_other_config", "a", "b", of=of_vm()), "a"),
    "VM.set_HVM_boot_policy": of_vm("BIOS order"),
    "VM.set_HVM_shadow_multiplier": of_vm(2.0),
    "VM.set_VCPUs_max": of_vm("4"),
    "VM.set_VCPUs_at_startup": of(after("VM.set_VCPUs_max", "4", of=of_vm()), "2"),
    "VM.set_actions_after_crash": of_vm("preserve"),
    "VM.set_bios_strings": of_vm({"bios-vendor": "x"}),
    "VM.set_domain_type": of_vm("pvh"),
    "VM.set_ha_always_run": of_vm(True),
    "VM.set_ha_restart_priority": of_vm("restart"),
    "VM.set_is_a_template": of_vm(True),
    "VM.set_is_default_template": of(after("VM.set_is_a_template", True, of=of_vm()), True),
    "VM.set_memory": of_vm(str(1 << 30)),
    "VM.set_memory_limits": of_vm("0", str(1 << 30), str(1 << 30), str(1 << 30)),
    "VM.set_memory_static_max": of_vm(str(1 << 33)),
    "VM.set_memory_static_min": of_vm("1"),
    "VM.set_memory_static_range": of_vm("0", str(1 << 33)),
    "VM.set_memory_dynamic_max": of(VM_OF_4, str(1 << 31)),
    "VM.set_memory_dynamic_min": of(VM_OF_4, str(1 << 31)),
    "VM.set_memory_dynamic_range": of(VM_OF_4, str(1 << 30), str(1 << 31)),
    "VM.set_order": of_vm("3"),
    "VM.set_start_delay": of_vm("3"),
    "VM.set_shutdown_delay": of_vm("3"),
    "VM.clone": of_vm("copy"),
    "VIF.set_other_config": of_vif({"a": "b"}),
    "VIF.remove_from_other_config": of(after("VIF.add_to_other_config", "a", "b", of=of_vif()), "a"),
    "VIF.set_qos_algorithm_params": of_vif({"kbps": "9"}),
    "VIF.remove_from_qos_algorithm_params": of(
        after("VIF.add_to_qos_algorithm_params", "kbps", "9", of=of_vif()), "kbps"
    ),
    "VIF.add_ipv4_allowed": of_vif("10.0.0.1"),
    "VIF.remove_ipv4_allowed": of(after("VIF.add_ipv4_allowed", "10.0.0.1", of=of_vif()), "10.0.0.1"),
    "VIF.set_ipv6_allowed": of_vif(["fd00::1"]),
    "VIF.remove_ipv6_allowed": of(after("VIF.add_ipv6_allowed", "fd00::1", of=of_vif()), "fd00::1"),
    "VIF.set_trunks": of_vif(["5", "6"]),
    "VIF.add_trunks": of_vif("5"),
    "VIF.remove_trunks": of(after("VIF.add_trunks", "5", of=of_vif()), "5"),
    "PIF.unplug": nic,
    "PIF.plug": after("PIF.unplug", of=nic),
    "PIF.scan": nic_forgotten,
    "PIF.introduce": of(nic_forgotten, "02:00:00:00:00:02", "eth1"),
    "PIF.create_VLAN": new_vlan,
    "PIF.destroy": vlan,
    "PIF.db_forget": nic,
    "PIF.pool_introduce": new_pif,
    "PIF.db_introduce": new_pif,
    "network.pool_introduce": fixed("x", "", "1500", {}, "xapi77", True, []),
    "network.remove_purpose": nbd_network,
    "message.create": new_alert,
    "message.destroy": alert,
    "message.destroy_many": alerts,
    "message.destroy_all": all_alerts,
    "subject.create": fixed(SUBJECT),
    "subject.destroy": subject,
    "subject.add_to_roles": subject_without_role,
    "subject.remove_from_roles": subject_with_role,
    "host.disable": host,
    "host.enable": after("host.disable", of=host),
    "host.enable_external_auth": of(host, {}, "s", "PAM"),
    "host.disable_external_auth": host_with_directory,
    "host.management_reconfigure": nic_with_address,
    "host.management_disable": fixed(),
    "pool.enable_client_certificate_auth": of(pool, "reporter"),
    "pool.disable_client_certificate_auth": after("pool.enable_client_certificate_auth", "reporter", of=pool),
    "pool.enable_external_auth": of(pool, {}, "s", "PAM"),
    "pool.disable_external_auth": pool_with_directory,
    "pool.management_reconfigure": network_with_address,
    "pool.create_VLAN": new_vlans,
    "pool.create_VLAN_from_PIF": new_vlans_of_pif,
    "pool.create_bond": new_bonds,
    "pool.set_ha_host_failures_to_tolerate": of(pool, "1"),
    "pool.set_https_only": of(pool, True),
    "pool.set_other_config": of(pool, {"a": "b"}),
    "pool.remove_from_other_config": of(after("pool.add_to_other_config", "a", "b", of=pool), "a"),
    "network_sriov.create": nic_with_functions,
    "network_sriov.destroy": functions_of_nic,
    "SR.introduce": fixed("11111111-1111-4111-8111-111111111111", "n", "", "nfs", "user", True, {}),
    "SR.set_name_label": of(storage, "x"),
    "SR.set_name_description": of(storage, "x"),
    "SR.set_shared": of(storage, False),
    "SR.set_physical_size": of(storage, "5"),
    "SR.set_virtual_allocation": of(storage, "5"),
    "SR.set_physical_utilisation": of(storage, "5"),
    "SR.forget": storage,
    "PBD.create": new_plug,
    "PBD.destroy": plug,
    "PBD.set_device_config": of(plug, {"server": "192.0.2.8", "serverpath": "/y"}),
}
"""Messages that are undone here, with what prepares a world and gives their arguments; `KINDS` undoes more."""


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GUESTS: Final = words("""
    VM.start VM.start_on VM.clean_shutdown VM.hard_shutdown VM.shutdown VM.clean_reboot VM.hard_reboot VM.pause VM.unpause
    VM.suspend VM.resume VM.resume_on VM.power_state_reset VM.pool_migrate
""")
"""What is done to a running guest: no record of the configuration brings that back."""

STORAGE: Final = words("SR.create SR.destroy SR.scan SR.update PBD.plug PBD.unplug")
"""What is done to storage."""

MEMBERSHIP: Final = words("host.destroy")
"""Who is in the pool."""

NOTHING: Final = words("""
    VM.provision VM.update_allowed_operations VM.set_has_vendor_device VM.set_suspend_VDI VM.set_appliance
    VM.set_snapshot_schedule VIF.configure_ipv4 VIF.configure_ipv6 network.attach network.attach_for_vm
    network.detach_for_vm host.set_ssl_legacy host.reset_networking host.signal_networking_change
    host.sync_pif_currently_attached host.sync_tunnels host.sync_vlans host.local_management_reconfigure
    pool.disable_ssl_legacy VLAN.pool_introduce
""")
"""What changes nothing that is kept, needs a guest's agent or a host in an emergency, or is a host's own to say."""

OPPOSITES: Final = words("VIF.plug VIF.unplug VIF.unplug_force")
"""Taken back by another message (`test_audit_undo`)."""

BY_COMMANDS: Final = words("""
    Bond.create Bond.destroy Bond.set_mode Bond.set_property PIF.forget PIF.reconfigure_ip PIF.reconfigure_ipv6
    PIF.set_disallow_unplug PIF.set_primary_address_type PIF.set_property VIF.add_ipv6_allowed VIF.add_to_other_config
    VIF.add_to_qos_algorithm_params VIF.create VIF.destroy VIF.move VIF.set_ipv4_allowed VIF.set_locking_mode
    VIF.set_qos_algorithm_type VLAN.create VLAN.destroy VM.add_to_other_config VM.create VM.destroy
    host.set_hostname_live host.set_https_only network.add_purpose network.create network.destroy
    network.set_default_locking_mode pool.add_to_other_config pool.set_igmp_snooping_enabled tunnel.create tunnel.destroy
    pool.audit_undo
""")
"""Undone by `test_audit_undo`, as commands of `xe` do them."""


def test_it_is_known_of_every_message_of_a_rule_whether_it_can_be_undone() -> None:
    decided = {
        name
        for name, message in MESSAGES.items()
        if implemented(message)
        and not reads(message)
        and _kind(message) == "rule"
        and REMOVED not in message.flags
    }
    known = (UNDONE.keys(), GUESTS, STORAGE, MEMBERSHIP, NOTHING, OPPOSITES, BY_COMMANDS)
    assert sum(map(len, known)) == len(frozenset().union(*known)), "one is named twice"
    assert decided == frozenset().union(*known)


def groups() -> Mapping[str, list[str]]:
    """The messages by the servers that they are tried on: those about VMs and VIFs make new ones for themselves."""
    found: dict[str, list[str]] = {}
    for method in UNDONE:
        cls = method.partition(".")[0]
        found.setdefault(cls if cls in ("VM", "VIF") else method, []).append(method)
    return found


@pytest.mark.parametrize("group", groups())
def test_undo_restores_what_was_there_before_the_message(tmp_path: Path, group: str) -> None:
    async def body(server: InProcess) -> None:
        world = World(server, await login_as(server, None))
        for method in groups()[group]:
            arguments = await UNDONE[method](world)
            before = state(server)
            await world.do(method, *arguments)
            after = state(server)
            assert after != before, f"{method}: nothing to undo"
            for expected in (before, after, before):
                await world.do("pool.audit_undo", str(await last_entry(server)))
                assert state(server) == expected, method

    with_server(tmp_path, body)


def test_a_host_that_was_forgotten_does_not_come_back_so(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        world = World(server, await login_as(server, None))
        gone = replace(next(iter(server.database.view.all(Host))), ref=a_ref(), uuid=a_uuid(), metrics=NULL)
        await server.coordinator.write(lambda txn: txn.create(gone))
        await world.do("host.destroy", gone.ref)
        before = state(server)
        said = await call(server, "pool.audit_undo", world.session, str(await last_entry(server)))
        assert refused(said)[0] == "OPERATION_NOT_ALLOWED"
        assert "host.destroy concerned membership of the pool" in refused(said)[1]
        assert state(server) == before

    with_server(tmp_path, body)
