"""A pool of one host (more where a test wants them) on a database in memory, and short words for what tests do to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import pytest

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.txn import Txn
from poolnet.hostnet import protocol
from poolnet.hostnet.derive import derive
from poolnet.hostnet.facts import GuestFacts, HostFacts, NicFacts
from poolnet.hostnet.state import HostNetwork, IpConfig, Ipv4Mode
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import DomainType, OnCrashBehaviour, OnNormalExit, VifLockingMode, VmPowerState
from poolnet.model.errors import Failure
from poolnet.model.types import NULL, Ref
from poolnet.rules import pif, startup
from poolnet.rules.catalog import RULES
from poolnet.rules.context import CallContext, Counters, Session

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOCAL: Ref[Host] = Ref("OpaqueRef:host")
MANAGEMENT = protocol.Management(
    nic="eth0",
    ip=IpConfig(
        ipv4_mode=Ipv4Mode.STATIC,
        ipv4_address="192.0.2.10/24",
        ipv4_gateway="192.0.2.1",
        dns_servers=("192.0.2.53",),
    ),
)
GREETING = protocol.Greeting(
    version=protocol.PROTOCOL_VERSION,
    backend="openvswitch",
    hostname="host1",
    boot_id="boot",
    confirmed="",
    management=MANAGEMENT,
)


def nic(number: int) -> NicFacts:
    """A NIC ethN with carrier."""
    return NicFacts(
        name=f"eth{number}",
        mac=f"52:54:00:00:00:{number:02X}",
        carrier=True,
        speed_mbps=1000,
        full_duplex=True,
        pci_bus_path=f"0000:00:{number:02x}.0",
        vendor_id="8086",
        device_id="1533",
    )


def facts_with(nics: int = 3, guests: tuple[GuestFacts, ...] = ()) -> HostFacts:
    """What a host with that many NICs reports."""
    return HostFacts(
        hostname="host1",
        nics=tuple(nic(number) for number in range(nics)),
        guests=guests,
        memory_total_bytes=8 << 30,
        memory_free_bytes=4 << 30,
        cpu_count=4,
    )


NETWORK_RECORD: Mapping[str, Any] = {
    "name_label": "net",
    "name_description": "",
    "MTU": 1500,
    "other_config": {},
    "bridge": "",
    "managed": True,
    "tags": (),
}
VIF_RECORD: Mapping[str, Any] = {
    "device": "0",
    "network": NULL,
    "VM": NULL,
    "MAC": "",
    "MTU": 1500,
    "other_config": {},
    "currently_attached": False,
    "qos_algorithm_type": "",
    "qos_algorithm_params": {},
    "locking_mode": VifLockingMode.NETWORK_DEFAULT,
    "ipv4_allowed": (),
    "ipv6_allowed": (),
    "trunks": (),
}
VM_RECORD: Mapping[str, Any] = {
    "name_label": "vm",
    "power_state": VmPowerState.HALTED,
    "is_a_template": False,
    "memory_static_max": 256 << 20,
    "memory_dynamic_max": 256 << 20,
    "memory_dynamic_min": 256 << 20,
    "VCPUs_max": 1,
    "VCPUs_at_startup": 1,
    "actions_after_shutdown": OnNormalExit.DESTROY,
    "actions_after_reboot": OnNormalExit.RESTART,
    "actions_after_crash": OnCrashBehaviour.RESTART,
    "domain_type": DomainType.UNSPECIFIED,
    "other_config": {},
}


@dataclass(slots=True)
class World:
    """The pool, and the context in which rules are called on it. Uuids count up, so that runs are alike."""

    ctx: CallContext
    actions_seen: int = field(default=0)

    @classmethod
    def new(cls, nics: int = 3, greeting: protocol.Greeting = GREETING) -> World:
        """A pool after its first start, not yet committed. The start is made once for all tests that want the same."""
        ctx = _after_first_boot(nics, greeting)
        counters = Counters(next_bridge=ctx.counters.next_bridge)
        return cls(
            ctx=replace(
                ctx,
                txn=ctx.txn.nested(),
                counters=counters,
                new_uuid=_counting_uuids(1 << 64),
                guest_actions=[],
                hostname_changes=[],
                storage_actions=[],
            )
        )

    @property
    def txn(self) -> Txn:
        """What the rules change."""
        return self.ctx.txn

    def call(world, method: str, /, **arguments: Any) -> Any:  # noqa: N805 - messages have a parameter named self
        """Lets a message's rule decide; whatever it raises leaves no trace, as in the server."""
        attempt = world.ctx.on(world.ctx.txn.nested())
        actions, storage = len(world.ctx.guest_actions), len(world.ctx.storage_actions)
        try:
            result = RULES[method](attempt, **arguments)
        except BaseException:
            del world.ctx.guest_actions[actions:]
            del world.ctx.storage_actions[storage:]
            raise
        attempt.txn.merge()
        return result

    def as_session(self, session: Session) -> None:
        """Lets somebody else ask from now on."""
        self.ctx.session = session

    def network(self, **fields: Any) -> Ref[Network]:
        """A new internal network."""
        result: Ref[Network] = self.call("network.create", record={**NETWORK_RECORD, **fields})
        return result

    def vm(self, **fields: Any) -> Ref[VM]:
        """A new halted VM."""
        result: Ref[VM] = self.call("VM.create", record={**VM_RECORD, **fields})
        return result

    def vif(self, vm: Ref[VM], network: Ref[Network], **fields: Any) -> Ref[VIF]:
        """A new VIF."""
        record = {**VIF_RECORD, "VM": vm, "network": network, **fields}
        result: Ref[VIF] = self.call("VIF.create", record=record)
        return result

    def vlan(self, tagged: Ref[PIF], tag: int, network: Ref[Network] | None = None) -> Ref[VLAN]:
        """A new VLAN, on a new network unless one is given."""
        target = self.network() if network is None else network
        result: Ref[VLAN] = self.call("VLAN.create", tagged_PIF=tagged, tag=tag, network=target)
        return result

    def start(self, vm: Ref[VM]) -> None:
        """Starts a VM."""
        self.call("VM.start", vm=vm, start_paused=False, force=False)

    def nic_pif(self, device: str) -> PIF:
        """The physical PIF of that device of this host."""
        return next(p for p in self.txn.where(PIF, host=LOCAL) if p.physical and p.device == device)

    def nic_network(self, device: str) -> Ref[Network]:
        """The network of that PIF."""
        return self.nic_pif(device).network

    def pool(self, **fields: Any) -> Ref[Pool]:
        """The pool, after writing these fields."""
        ref = next(iter(self.txn.refs(Pool)))
        self.txn.update(Pool, ref, **fields)
        return ref

    def restrict(self, key: str) -> None:
        """Turns a feature off."""
        pool = next(iter(self.txn.all(Pool)))
        self.pool(restrictions={**pool.restrictions, key: "true"})

    def host(self, *, live: bool = True, nics: int = 2, enabled: bool = True) -> Ref[Host]:
        """Another host of the pool, with its NICs' PIFs on the pool's networks."""
        number = self.txn.count(Host) + 1
        metrics = self.txn.create(
            HostMetrics(ref=self.ctx.new_ref(), uuid=self.ctx.new_uuid(), live=live, last_updated=NOW)
        )
        host = self.txn.create(
            Host(
                ref=self.ctx.new_ref(),
                uuid=self.ctx.new_uuid(),
                name_label=f"host{number}",
                hostname=f"host{number}",
                metrics=metrics,
                enabled=enabled,
                software_version={"network_backend": "openvswitch"},
            )
        )
        for each in range(nics):
            pif.add_physical(self.ctx, host, nic(each), managed=True)
        return host

    def pif_of(self, host: Ref[Host], network: Ref[Network]) -> PIF:
        """A host's PIF on a network."""
        return next(p for p in self.txn.where(PIF, network=network) if p.host == host)

    def unmanaged_pif(self, network: Ref[Network]) -> Ref[PIF]:
        """A PIF of this host that is not poolnet's to change."""
        metrics = self.txn.create(PIFMetrics(ref=self.ctx.new_ref(), uuid=self.ctx.new_uuid()))
        return self.txn.create(
            PIF(
                ref=self.ctx.new_ref(),
                uuid=self.ctx.new_uuid(),
                device="eth9",
                network=network,
                host=LOCAL,
                MAC="52:54:00:00:00:99",
                MTU=1500,
                VLAN=-1,
                metrics=metrics,
                physical=True,
                currently_attached=False,
                managed=False,
            )
        )

    def derive(self) -> HostNetwork:
        """What this host's network should be."""
        return derive(self.txn, LOCAL)

    def new_actions(self) -> list[tuple[str, str]]:
        """Phase and kind of the guest actions that were asked for since the last time."""
        fresh = self.ctx.guest_actions[self.actions_seen :]
        self.actions_seen = len(self.ctx.guest_actions)
        return [(phase.value, type(action).__name__) for _, phase, action in fresh]


def refused(code: str, *params: str) -> AbstractContextManager[Any]:
    """The block must raise exactly this failure."""
    text = f"{code}[{'; '.join(params)}]"
    return _Refused(text)


class _Refused(AbstractContextManager[None]):
    def __init__(self, text: str) -> None:
        self._text = text

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None:
            pytest.fail(f"not refused, expected {self._text}")
        if not isinstance(error, Failure):
            return False
        assert str(error) == self._text
        return True


@cache
def _after_first_boot(nics: int, greeting: protocol.Greeting) -> CallContext:
    facts = facts_with(nics)
    ctx = CallContext(
        txn=Database.open(MemoryEngine()).begin(),
        now=NOW,
        new_uuid=_counting_uuids(0),
        local_host=LOCAL,
        facts={LOCAL: facts},
    )
    startup.first_boot(ctx, "11111111-1111-1111-1111-111111111111", greeting, facts)
    return ctx


def _counting_uuids(start: int) -> Callable[[], str]:
    count = start

    def new_uuid() -> str:
        nonlocal count
        count += 1
        return str(UUID(int=count))

    return new_uuid
