"""Do the locks of VIFs hold, what would become of a packet, and what was stopped? poolnet's own messages of the class VIF.

They change nothing in the database, so no rule decides them: the hosts are asked. What a lock should be is derived from
the database, and not from what a host remembers. The answers are JSON texts, for programs and for `xe` alike.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from poolnet.api.dispatch import Call, Own, Result
from poolnet.db.database import Database
from poolnet.db.txn import View
from poolnet.hostnet import protocol
from poolnet.hostnet.derive import derive
from poolnet.hostnet.derive_port import effective_mode, vif_device
from poolnet.hostnet.state import GuestPort, LockMode, PortLock
from poolnet.lock.packet_text import PacketTextError, frame_of
from poolnet.lock.packets import CORPUS
from poolnet.lock.policy import allows
from poolnet.lock.reasons import DropReason
from poolnet.lock.words import describe, name_of, why
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.types import Ref
from poolnet.pool.hostlink import HostGone, HostRefused

ROUNDS_MAX = 4  # of looking again at locks that were just being changed
AGAIN_S = 0.5
ASK_TIMEOUT_S = 60.0
_TITLES = {case.name: case.title for case in CORPUS}
_LIVE = (VmPowerState.RUNNING, VmPowerState.PAUSED)

A = TypeVar("A", bound=protocol.Answer)


class AskedHosts(Protocol):
    """The hosts, as far as they are asked here."""

    async def ask(self, host: Ref[Host], command: protocol.Command, expect: type[A], timeout_s: float) -> A:
        """A host's answer; raises `HostRefused` or `HostGone`."""


@dataclass(frozen=True, slots=True)
class _Plugged:
    """A VIF of a VM that runs, and the port that it should have."""

    vif: VIF
    vm: VM
    host: Ref[Host]
    port: GuestPort


def lock_messages(database: Database, hosts: AskedHosts) -> Mapping[str, Own]:
    """The messages, by full name."""
    locks = _Locks(database, hosts)
    return {
        "VIF.verify_locks": locks.verify,
        "VIF.explain_lock": locks.explain,
        "VIF.count_dropped": locks.count,
    }


class _Locks:
    def __init__(self, database: Database, hosts: AskedHosts) -> None:
        self._database = database
        self._hosts = hosts

    async def verify(self, call: Call) -> Result:
        """Proves the locks of these VIFs, or of all, on the live switches of their hosts.

        Of a host that cannot say nothing is proved.

        Raises:
            HANDLE_INVALID: There is no such VIF.
        """
        vifs = _chosen(self._database.view, call.arguments["vifs"])
        answers: dict[str, dict[str, Any]] = {}
        rules: dict[str, list[str]] = {}
        left = {vif.ref for vif in vifs}
        for round_number in range(ROUNDS_MAX):
            view = self._database.view
            plugged, others = _ports(view, [vif for vif in vifs if vif.ref in left])
            answers |= {vif.uuid: _unplugged(view, vif) for vif in others}
            proofs = await self._prove(plugged, rules)
            changing = {one.vif.ref for one, proof in proofs if proof.is_changing}
            for one, proof in proofs:
                answers[one.vif.uuid] = _answer(one, proof)
            if not changing or round_number == ROUNDS_MAX - 1:
                break
            left = changing  # somebody may have changed them a moment ago: the host before the database, or after it
            await asyncio.sleep(AGAIN_S)
        found = [answers[vif.uuid] for vif in vifs if vif.uuid in answers]
        proved = not any(rules.values()) and all(answer["verdict"] != NOT_PROVED for answer in found)
        return _json({"proved": proved, "rules": rules, "vifs": found})

    async def _prove(
        self, plugged: Iterable[_Plugged], rules: dict[str, list[str]]
    ) -> list[tuple[_Plugged, protocol.PortProof]]:
        by_host: defaultdict[Ref[Host], list[_Plugged]] = defaultdict(list)
        for one in plugged:
            by_host[one.host].append(one)
        proofs: list[tuple[_Plugged, protocol.PortProof]] = []
        for host, ports in by_host.items():
            name = self._database.view.get(Host, host).name_label
            devices = {one.port.device for one in ports}
            for start in range(0, len(ports), protocol.VERIFY_PORTS_MAX):
                some = ports[start : start + protocol.VERIFY_PORTS_MAX]
                command = protocol.VerifyLocks(ports=tuple(one.port for one in some), rules=start == 0)
                try:
                    answer = await self._hosts.ask(host, command, protocol.LocksVerified, ASK_TIMEOUT_S)
                except (HostGone, HostRefused) as error:
                    rules[name] = [f"the host cannot say: {error}"]
                    proofs += [(one, _unknown(one)) for one in ports[start:]]
                    break
                proofs += zip(some, answer.proofs, strict=True)
                if start == 0:
                    rules[name] = [r.text for r in answer.rules if not r.device or r.device in devices]
        return proofs

    async def explain(self, call: Call) -> Result:
        """Says what becomes of a packet that a VIF's guest sends, and by which rule.

        Raises:
            HANDLE_INVALID: There is no such VIF.
            INVALID_VALUE: The packet cannot be understood; the second parameter says why.
            DEVICE_ALREADY_DETACHED: The VIF is not plugged, or disabled: it is on no bridge.
        """
        view = self._database.view
        vif = view.get(VIF, call.arguments["self"])
        plugged, _ = _ports(view, [vif])
        if not plugged or plugged[0].port.lock.mode is LockMode.DISABLED:
            raise errors.device_already_detached(vif.ref)
        one = plugged[0]
        lock = one.port.lock
        try:
            frame = frame_of(call.arguments["packet"], lock)
        except PacketTextError as error:
            raise errors.invalid_value("packet", str(error)) from None
        meant = allows(lock, frame)
        command = protocol.TracePacket(device=one.port.device, frame_hex=frame.hex())
        traced = await self._ask(one.host, command, protocol.Traced)
        return _json(
            {
                **_about(one.vif, one.vm, lock.mode),
                "packet": describe(frame),
                "frame": frame.hex(),
                "lock": {
                    "passes": meant.passes,
                    "reason": meant.reason.value if meant.reason else "",
                    "because": why(lock, frame, meant),
                },
                "switch": {"passes": traced.forwarded, "reason": traced.counted, "rules": traced.path},
                "agree": traced.forwarded == meant.passes,
                "trace": traced.text,
            }
        )

    async def count(self, call: Call) -> Result:
        """How many frames the locks of these VIFs, or of all, have stopped, by reason.

        Raises:
            HANDLE_INVALID: There is no such VIF.
        """
        view = self._database.view
        plugged, _ = _ports(view, _chosen(view, call.arguments["vifs"]))
        by_host: defaultdict[Ref[Host], list[_Plugged]] = defaultdict(list)
        for one in plugged:
            by_host[one.host].append(one)
        found = []
        for host, ports in by_host.items():
            command = protocol.ReadCounters(devices=tuple(one.port.device for one in ports))
            counters = await self._ask(host, command, protocol.Counters)
            by_device = {facts.device: facts for facts in counters.ports}
            for one in ports:
                facts = by_device.get(one.port.device)
                found.append(
                    {
                        **_about(one.vif, one.vm, one.port.lock.mode),
                        "shadow": one.port.lock.shadow,
                        "dropped": dict(facts.dropped) if facts is not None else {},
                        "would-drop": dict(facts.shadowed) if facts is not None else {},
                    }
                )
        return _json({"vifs": found})

    async def _ask(self, host: Ref[Host], command: protocol.Command, expect: type[A]) -> A:
        try:
            return await self._hosts.ask(host, command, expect, ASK_TIMEOUT_S)
        except HostGone as error:
            raise errors.host_offline(host) from error
        except HostRefused as error:
            raise errors.internal_error(error.refused.message) from error


PROVED, NOT_PROVED, UNLOCKED, DISABLED = "proved", "not proved", "unlocked", "disabled"
UNPLUGGED, UNSWITCHED = "not plugged", "on no switch"


def _chosen(view: View, refs: Sequence[Ref[VIF]]) -> list[VIF]:
    """These VIFs, or all of them, in the order of their VMs' names. Raises HANDLE_INVALID."""
    vifs = [view.get(VIF, ref) for ref in refs] if refs else list(view.all(VIF))

    def place(vif: VIF) -> tuple[str, int, str]:
        vm = view.find(VM, vif.VM)
        return (vm.name_label if vm else "", int(vif.device) if vif.device.isdecimal() else 0, vif.uuid)

    return sorted(vifs, key=place)


def _ports(view: View, vifs: Iterable[VIF]) -> tuple[list[_Plugged], list[VIF]]:
    """The VIFs that are plugged into a switch, with their ports as they should be; and the others."""
    desired: dict[Ref[Host], dict[str, GuestPort]] = {}
    plugged: list[_Plugged] = []
    others: list[VIF] = []
    for vif in vifs:
        vm = view.find(VM, vif.VM)
        if vm is None or not vif.currently_attached or vm.power_state not in _LIVE or vm.domid <= 0:
            others.append(vif)
            continue
        host = vm.resident_on
        if host not in desired:
            desired[host] = {port.vif_uuid: port for port in derive(view, host).ports}
        port = desired[host].get(vif.uuid)
        if port is None and effective_mode(vif, view.find(Network, vif.network)) is LockMode.DISABLED:
            port = _disabled(view, vif, vm)
        if port is None:  # a virtual function: no switch sees its frames
            others.append(vif)
        else:
            plugged.append(_Plugged(vif, vm, host, port))
    return plugged, others


def _disabled(view: View, vif: VIF, vm: VM) -> GuestPort:
    """The port that a plugged VIF would have if it may send nothing: none, which is what is looked at."""
    network = view.find(Network, vif.network)
    lock = PortLock(mode=LockMode.DISABLED, mac=vif.MAC.lower())
    return GuestPort(
        device=vif_device(vm.domid, vif.device), bridge=network.bridge if network else "", lock=lock
    )


def _about(vif: VIF, vm: VM | None, mode: LockMode) -> dict[str, Any]:
    return {
        "vif": vif.uuid,
        "vm": vm.uuid if vm is not None else "",
        "vm-name-label": vm.name_label if vm is not None else "",
        "device": vif.device,
        "mode": mode.value,
    }


def _unplugged(view: View, vif: VIF) -> dict[str, Any]:
    vm = view.find(VM, vif.VM)
    mode = effective_mode(vif, view.find(Network, vif.network))
    is_live = vm is not None and vif.currently_attached and vm.power_state in _LIVE
    return {
        **_about(vif, vm, mode),
        "shadow": False,
        "verdict": UNSWITCHED if is_live else UNPLUGGED,
        **_NOTHING,
    }


_NOTHING: Mapping[str, Any] = {"frames": 0, "passing": (), "stopped": (), "wrong": (), "faults": ()}


def _unknown(one: _Plugged) -> protocol.PortProof:
    return protocol.PortProof(device=one.port.device, faults=("its host cannot say what it sends",))


def _answer(one: _Plugged, proof: protocol.PortProof) -> dict[str, Any]:
    lock = one.port.lock
    faults = list(proof.faults)
    if proof.is_changing:
        faults.append(f"the host holds another lock for {proof.device} than the database")
    usual = {LockMode.UNLOCKED: UNLOCKED, LockMode.DISABLED: DISABLED, LockMode.LOCKED: PROVED}[lock.mode]
    return {
        **_about(one.vif, one.vm, lock.mode),
        "shadow": lock.shadow,
        "verdict": NOT_PROVED if faults or proof.wrong else usual,
        "frames": proof.frames,
        "passing": proof.passing,
        "stopped": proof.stopped,
        "wrong": [_wrong(found) for found in proof.wrong],
        "faults": faults,
    }


def _wrong(found: protocol.ClassFound) -> dict[str, Any]:
    """A class that is not proved, with its packet."""
    if found.forwarded != found.wanted:
        text = "passes, and must not" if found.forwarded else "is stopped, and must not be"
    else:
        text = "passes without being counted"
    counted = name_of(DropReason(found.counted)) if found.counted else ""
    return {
        "class": found.name,
        "title": _TITLES.get(found.name, ""),
        "finding": f"{text}: counted as {counted}" if counted and not found.wanted else text,
        "passes": found.forwarded,
        "packet": describe(bytes.fromhex(found.frame_hex)),
        "frame": found.frame_hex,
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
