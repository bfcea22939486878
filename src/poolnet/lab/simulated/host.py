"""A host daemon without a host: it keeps a network and guests as values, and does with them what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from poolnet.hostnet import protocol
from poolnet.hostnet.diff_of_few import diff_of_few
from poolnet.hostnet.facts import ARRIVING, DEPARTING, AddressFacts, GuestFacts, HostFacts, NicFacts
from poolnet.hostnet.laws import ImpossibleStateError
from poolnet.hostnet.show import network_hash, plan_hash
from poolnet.hostnet.state import EMPTY, HostNetwork, IpConfig, Ipv4Mode

MEMORY_BYTES: Final = 256 << 30
STAGED_MAX: Final = 64


def nic_of(host: int, slot: int) -> NicFacts:
    """A NIC with carrier; the host's number and the slot are in its MAC."""
    return NicFacts(
        name=f"eth{slot}",
        mac=f"02:51:{host >> 8 & 255:02x}:{host & 255:02x}:00:{slot:02x}",
        carrier=True,
        speed_mbps=25000,
        full_duplex=True,
        pci_bus_path=f"0000:{slot + 1:02x}:00.0",
        vendor_id="15b3",
        device_id="1015",
        driver="simulated",
        position=slot,
    )


@dataclass(slots=True)
class _Switched:
    rollout: str
    before: HostNetwork
    guests_before: dict[str, GuestFacts]
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class SimulatedHost:
    """One host. `address` is that of its management, without the length."""

    number: int
    address: str
    nics: tuple[NicFacts, ...]
    confirmed: HostNetwork = EMPTY
    network: HostNetwork = EMPTY
    rollout: str = ""
    guests: dict[str, GuestFacts] = field(default_factory=dict)
    _staged: dict[str, protocol.Stage] = field(default_factory=dict)
    _switched: _Switched | None = None
    _known_addresses: tuple[HostNetwork, tuple[AddressFacts, ...]] = (EMPTY, ())
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """The host's name."""
        return f"host{self.number}"

    def greeting(self) -> protocol.Greeting:
        """Who this is; its first boot puts its management on `eth0`."""
        management = protocol.Management(
            nic="eth0", ip=IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address=f"{self.address}/16")
        )
        return protocol.Greeting(
            version=protocol.PROTOCOL_VERSION,
            backend="openvswitch",
            hostname=self.name,
            boot_id=f"simulated-{self.number}",
            confirmed=network_hash(self.confirmed),
            management=management,
        )

    def facts(self) -> HostFacts:
        """What it reports: every NIC has carrier, every address is there."""
        return HostFacts(
            hostname=self.name,
            nics=self.nics,
            addresses=self._addresses(),
            guests=tuple(self.guests.values()),
            memory_total_bytes=MEMORY_BYTES,
            memory_free_bytes=MEMORY_BYTES // 2,
            cpu_count=32,
        )

    def _addresses(self) -> tuple[AddressFacts, ...]:
        """Looked for once in each state: there are hundreds of bridges, and one or two addresses."""
        of, known = self._known_addresses
        if of is not self.network:
            known = tuple(
                AddressFacts(
                    bridge=bridge.name, ipv4=(bridge.ip.ipv4_address,), gateway=bridge.ip.ipv4_gateway
                )
                for bridge in self.network.bridges
                if bridge.ip.ipv4_address
            )
            self._known_addresses = self.network, known
        return known

    async def answer(self, command: protocol.Command) -> protocol.Answer:
        """Carries a command out."""
        match command:
            case protocol.Hello():
                return self.greeting()
            case protocol.Observe():
                return protocol.Observation(network=self.network, facts=self.facts())
            case protocol.Stage():
                return self._stage(command)
            case protocol.Switch():
                return self._switch(command)
            case protocol.AwaitsConfirm() | protocol.Confirm() | protocol.Revert() | protocol.Restore():
                return self._settle(command)
            case protocol.ReadGuest(vm_uuid=vm_uuid):
                return protocol.GuestImage(vm_uuid=vm_uuid)
            case protocol.SettleGuest(action=action):
                self._act(action)
        return self._look(command)

    def _look(self, command: protocol.Command) -> protocol.Answer:
        match command:
            case protocol.ReadDrift():
                return protocol.Drift(applied=self.confirmed, actual=self.network)
            case protocol.ReadCounters():
                return protocol.Counters(ports=())
            case protocol.ReadTraffic():
                return protocol.Traffic(rates=())
            case protocol.Authenticate():
                return protocol.Authenticated(accepted=False, reason="a simulated host has no accounts")
            case protocol.LoadGuest() | protocol.SettleGuest() | protocol.SetHostname():
                self._note()
                return protocol.Done(facts=self.facts())
        kind = type(command).__name__
        return _refused(protocol.Fault.SWITCH_FAILED, f"a simulated host does not answer {kind}")

    async def changes(self) -> AsyncIterator[HostFacts]:
        """The facts now, and whenever they have changed."""
        while True:
            self._changed.clear()
            yield self.facts()
            await self._changed.wait()

    def _note(self) -> None:
        self._changed.set()

    # --- rollouts ----------------------------------------------------------------------------------------------

    def _stage(self, command: protocol.Stage) -> protocol.Answer:
        busy = self._switched
        if busy is not None and not command.dry_run and busy.rollout != command.rollout:
            return _refused(protocol.Fault.BUSY, f"rollout {busy.rollout} waits", busy.rollout)
        try:
            plan = diff_of_few(self.network, command.desired)
        except ImpossibleStateError as error:
            return _refused(protocol.Fault.MALFORMED, str(error))
        if not command.dry_run:
            self._staged[command.rollout] = command
            while len(self._staged) > STAGED_MAX:
                del self._staged[next(iter(self._staged))]
        return protocol.Staged(plan=plan, plan_hash=plan_hash(plan))

    def _switch(self, command: protocol.Switch) -> protocol.Answer:
        staged = self._staged.pop(command.rollout, None)
        if staged is None:
            return _unknown(command.rollout)
        switched = _Switched(command.rollout, self.confirmed, dict(self.guests))
        for action in (*staged.guests_before, *staged.guests_after):
            self._act(action)
        self.network = staged.desired
        if command.confirm_within_s is None:
            self.confirmed, self.rollout = self.network, command.rollout
        else:
            self._switched = switched
            loop = asyncio.get_running_loop()
            switched.timer = loop.call_later(command.confirm_within_s, self._go_back)
        self._note()
        return protocol.Done(facts=self.facts())

    def _settle(
        self, command: protocol.AwaitsConfirm | protocol.Confirm | protocol.Revert | protocol.Restore
    ) -> protocol.Answer:
        if isinstance(command, protocol.Restore):
            self._go_back()
            return protocol.Restored(network=self.network)
        waits = self._switched is not None and self._switched.rollout == command.rollout
        confirmed = self.rollout == command.rollout
        match command:
            case protocol.Revert() if waits:
                self._go_back()
            case protocol.Confirm() if waits:
                self._disarm()
                self.confirmed, self.rollout = self.network, command.rollout
            case protocol.AwaitsConfirm() if not waits:
                return _unknown(command.rollout)
            case protocol.Confirm() if not confirmed:
                return _unknown(command.rollout)
            case protocol.Revert() if confirmed:
                return _unknown(command.rollout)
        return protocol.Done(facts=self.facts())

    def _disarm(self) -> None:
        switched, self._switched = self._switched, None
        if switched is not None and switched.timer is not None:
            switched.timer.cancel()

    def _go_back(self) -> None:
        """The network is what was confirmed; guests that wait for their migration to be decided are left alone."""
        switched = self._switched
        self._disarm()
        self.network = self.confirmed
        if switched is not None:
            waiting = {k: g for k, g in self.guests.items() if g.state in (DEPARTING, ARRIVING)}
            self.guests = {**switched.guests_before, **waiting}
        self._note()

    # --- guests ------------------------------------------------------------------------------------------------

    def _act(self, action: protocol.GuestAction) -> None:
        match action:
            case protocol.CreateGuest(guest=guest) | protocol.ResumeGuest(guest=guest):
                self._have(guest.vm_uuid, "paused", guest.domid)
            case protocol.ReceiveGuest(guest=guest):
                self._have(guest.vm_uuid, ARRIVING, guest.domid)
            case protocol.DepartGuest(vm_uuid=uuid):
                self._have(uuid, DEPARTING)
            case protocol.RunGuest(vm_uuid=uuid):
                self._have(uuid, "running")
            case protocol.PauseGuest(vm_uuid=uuid):
                self._have(uuid, "paused")
            case protocol.ShutDownGuest(vm_uuid=uuid):
                self._have(uuid, "stopped")
            case protocol.DestroyGuest(vm_uuid=uuid) | protocol.SuspendGuest(vm_uuid=uuid):
                self.guests.pop(uuid, None)

    def _have(self, uuid: str, state: str, domid: int = -1) -> None:
        known = self.guests.get(uuid)
        if known is not None or domid >= 0:
            number = domid if domid >= 0 or known is None else known.domid
            self.guests[uuid] = GuestFacts(vm_uuid=uuid, domid=number, state=state)


def _refused(fault: protocol.Fault, message: str, subject: str = "") -> protocol.Refused:
    return protocol.Refused(fault=fault, message=message, subject=subject)


def _unknown(rollout: str) -> protocol.Refused:
    return _refused(protocol.Fault.UNKNOWN_ROLLOUT, f"there is no rollout {rollout} to do that with", rollout)
