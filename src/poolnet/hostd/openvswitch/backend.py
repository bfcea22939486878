"""How does Open vSwitch carry out a plan? The backend: flows of new ports, one transaction, flows of new bridges.

A guest port is never connected without its lock: its port number is chosen first, its flows are put on the secure
bridge, and only then the transaction adds the port. A secure bridge that the transaction makes is closed until its
flows arrive. Flows of ports that went are removed at the end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from poolnet.hostd import moved_guests
from poolnet.hostd.backend import ApplyFailed, BackendGone, Trace
from poolnet.hostd.limits import Limits, Place, limiter_of
from poolnet.hostd.netlink import LinkError, Netlink, index_of, link_is_promiscuous, link_mac
from poolnet.hostd.netlink_links import LinkRefused
from poolnet.hostd.openvswitch import bond_status, left_behind, limiters, marks, proof, traced, unixctl
from poolnet.hostd.openvswitch.counters import CountsFailed, FlowCounts
from poolnet.hostd.openvswitch.flows import FlowKeeper, FlowsFailed
from poolnet.hostd.openvswitch.forming import FORMING_LOOK_S, FORMING_S, forming, has_formed
from poolnet.hostd.openvswitch.layout import (
    Layout,
    displaced,
    layout_of,
    switch_bridge_of,
    tunnels_first,
)
from poolnet.hostd.openvswitch.locks import FlowTexts, secure_bridges
from poolnet.hostd.openvswitch.marks import Role
from poolnet.hostd.openvswitch.observe import has_addresses, observe, unreported_macs
from poolnet.hostd.openvswitch.ofports import OFPORT_MAX, OFPORT_MIN, NoFreePort, next_ofport
from poolnet.hostd.openvswitch.replugged import reopenings
from poolnet.hostd.openvswitch.session import Session, SwitchGone
from poolnet.hostd.openvswitch.tables import Tables
from poolnet.hostd.openvswitch.transact import NotOurs, operations_for
from poolnet.hostnet.advance import Touched, advance, touched_by
from poolnet.hostnet.facts import BondFacts, PortFacts
from poolnet.hostnet.protocol import Fault, LocksVerified, PortProof, RuleFound
from poolnet.hostnet.state import NO_IP, Bridge, GuestPort, HostNetwork, PortLock
from poolnet.hostnet.steps import CreateBridge, DestroyBridge, SetAddresses, Step
from poolnet.lock.openflow import port_cookie
from poolnet.lock.rule_words import switch_rule
from poolnet.ovsdb.connection import OvsdbError
from poolnet.ovsdb.values import one_of

LOG = structlog.stdlib.get_logger("poolnet.hostd.openvswitch")
KERNEL_DATAPATH: Final = "system"  # Open vSwitch's name for its datapath in the kernel
_KERNEL_DATAPATH_NAME: Final = "system@ovs-system"  # all bridges have the same one there
_PORT_SHOWN: Final = re.compile(r"^ *port (\d+): (\S+)", re.MULTILINE)
_HELD: Final = "(File exists)"  # of an interface that the kernel's datapath has already
PROVED_AT_ONCE = 32  # ports: the switch traces the faster the more it is asked for at a time


class OpenvswitchBackend:
    """Implements `Backend` with Open vSwitch."""

    name: Final = "openvswitch"

    def __init__(
        self,
        *,
        run_dir: Path,
        work_dir: Path,
        datapath_type: str,
        netlink: Netlink,
        repaired: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`run_dir` is the switch's, with its sockets; `work_dir` is for our files; `datapath_type` of new bridges.

        `repaired` is told in words of each change of flows by somebody else that was put back.
        """
        self._run_dir = run_dir
        self._datapath_type = datapath_type
        self._netlink = netlink
        self._changed: Callable[[], None] = lambda: None
        self._version = ""
        self._texts = FlowTexts()
        self._counts = FlowCounts()
        self._turn = asyncio.Lock()
        self._stack = ExitStack()
        self._limits = Limits(Place.BESIDE_SWITCH)
        self._session = Session(run_dir / "db.sock", self._on_change)
        self._keeper = FlowKeeper(run_dir, work_dir, self._expected_flows, self._turn, repaired)

    @property
    def takes_offloads(self) -> bool:
        """See `Backend.takes_offloads`: the kernel completes what it sends, a switch in user space does not."""
        return self._datapath_type == KERNEL_DATAPATH

    async def open(self, changed: Callable[[], None]) -> None:
        """See `Backend.open`."""
        self._changed = changed
        try:
            self._stack.enter_context(self._limits)
            await self._session.open()
        except (SwitchGone, OSError) as error:
            raise BackendGone(str(error)) from error
        with suppress(
            unixctl.ControlError
        ):  # its scripts write the version into the database; perhaps nobody ran them
            socket = self._control()
            self._version = (await unixctl.ask(socket, "version", ())).split(" ")[-1].strip()

    async def close(self) -> None:
        """See `Backend.close`."""
        await self._keeper.close()
        await self._session.close()
        self._stack.close()

    async def retire(self) -> None:
        """See `Backend.retire`: the switch's programs stay, and forward nothing."""
        try:
            await self._limits.end(())
        except (LinkError, OSError) as error:
            raise ApplyFailed(Fault.SWITCH_FAILED, str(error)) from error

    def unsupported(self, network: HostNetwork) -> tuple[tuple[str, str], ...]:
        """See `Backend.unsupported`."""
        del network
        return ()

    async def observe(self) -> HostNetwork:
        """See `Backend.observe`."""
        tables = self._tables()
        try:
            addresses = await self._netlink.addresses(ipv6_gateways=False) if has_addresses(tables) else {}
        except LinkError as error:
            raise BackendGone(str(error)) from error
        macs = {name: mac for name in unreported_macs(tables) if (mac := link_mac(name))}
        devices = (port.name for port in tables.ports.values() if port.role is Role.GUEST)
        try:
            rates = self._limits.rates(devices)
        except (LinkError, OSError) as error:
            raise BackendGone(str(error)) from error
        return observe(tables, addresses, macs, rates)

    async def apply(self, steps: Sequence[Step], *, strict: bool = True) -> None:
        """See `Backend.apply`."""
        if not steps and strict:
            return
        async with self._turn:
            try:
                if steps:
                    await self._session.connected()
                    before = await self.observe()
                    await self._apply(before, advance(before, steps), touched_by(steps), strict)
                await self._tend_interfaces(steps, strict)
            except NotOurs as error:
                raise ApplyFailed(Fault.SWITCH_FAILED, str(error), error.name) from error
            except FlowsFailed as error:
                raise ApplyFailed(Fault.SWITCH_FAILED, str(error), error.bridge) from error
            except (OvsdbError, NoFreePort) as error:
                raise ApplyFailed(Fault.SWITCH_FAILED, f"the switch refused: {error}") from error
            except LinkRefused as error:
                raise ApplyFailed(
                    Fault.SWITCH_FAILED, f"is refused by the kernel: {error.reason}", error.link
                ) from error
            except (SwitchGone, LinkError, OSError) as error:
                raise ApplyFailed(Fault.SWITCH_FAILED, str(error)) from error
            except KeyError as error:
                raise ApplyFailed(
                    Fault.SWITCH_FAILED, f"a step changes what is not there: {error}"
                ) from error

    async def announce(self, devices: Collection[str]) -> None:
        """See `Backend.announce`."""
        try:
            ports = self._tables().ports
            network = await self.observe()
            lines: dict[str, list[str]] = {}
            for guest in network.ports:
                port = ports.get(guest.device)
                if guest.device in devices and port is not None and port.interfaces:
                    ofport = port.interfaces[0].number("ofport")
                    lines.setdefault(port.bridge, []).extend(
                        f"packet-out in_port={ofport} packet={frame.hex()} actions=NORMAL"
                        for frame in moved_guests.frames_of(guest.lock)
                    )
            for bridge, packets in lines.items():
                await self._keeper.emit(bridge, packets)
        except (BackendGone, FlowsFailed) as error:
            LOG.warning("guests were not announced", devices=sorted(devices), error=str(error))

    async def reopen_nics(self) -> None:
        """See `Backend.reopen_nics`."""
        async with self._turn:
            found = reopenings(self._tables(), link_is_promiscuous)
            if found:
                LOG.warning("NICs were put in anew, and the switch opens them again", nics=sorted(found))
                try:
                    await self._session.transact(list(found.values()))
                except (OvsdbError, SwitchGone) as error:
                    raise BackendGone(str(error)) from error

    async def trace(self, device: str, frame: bytes) -> Trace:
        """See `Backend.trace`."""
        port = self._tables().ports.get(device)
        if port is None or port.role is not Role.GUEST or not port.interfaces:
            raise ApplyFailed(Fault.NO_DEVICE, f"{device} is not a guest port", device)
        ofport = port.interfaces[0].number("ofport")
        arguments = (port.bridge, f"in_port={ofport}", frame.hex())
        try:
            socket = self._control()
            text = await unixctl.ask(socket, "ofproto/trace", arguments)
        except unixctl.ControlError as error:
            raise BackendGone(str(error)) from error
        found = traced.read(text)
        return Trace(
            forwarded=found.passes,
            text=text,
            counted=found.reason,
            path=tuple(switch_rule(table, rule) for table, rule in found.rules),
        )

    async def verify(self, ports: Sequence[GuestPort], *, rules: bool) -> LocksVerified:
        """See `Backend.verify`."""
        found: list[RuleFound] = []
        try:
            control = self._control()
            observed = await self.observe()
            proofs: list[PortProof] = []
            for start in range(0, len(ports), PROVED_AT_ONCE):
                some = ports[start : start + PROVED_AT_ONCE]
                cases: list[proof.Case] = []
                for port in some:
                    cases.append(proof.prepared(self._tables(), observed, port))
                    await asyncio.sleep(0)  # others have their turn between two ports
                proofs += await proof.proved(control, cases)
            for bridge in self._tables().bridges.values() if rules else ():
                if any(port.role is Role.GUEST for port in bridge.ports):
                    differences = await self._keeper.differences(bridge.name)
                    found += proof.rules_found(bridge, differences)
        except (unixctl.ControlError, FlowsFailed) as error:
            raise BackendGone(str(error)) from error
        return LocksVerified(proofs=tuple(proofs), rules=tuple(found))

    async def counters(self, devices: Collection[str]) -> tuple[PortFacts, ...]:
        """See `Backend.counters`."""
        tables = self._tables()
        found: list[PortFacts] = []
        for bridge in secure_bridges(tables):
            ports = {
                ofport: port.name
                for port in tables.bridges[bridge].ports
                if port.role is Role.GUEST and port.interfaces and (not devices or port.name in devices)
                if (ofport := port.interfaces[0].number("ofport_request")) is not None
            }
            if ports:
                try:
                    found += await self._counts.of(self._keeper.socket(bridge), ports)
                except CountsFailed as error:
                    raise BackendGone(str(error)) from error
        return tuple(sorted(found, key=lambda facts: facts.device))

    async def bonds(self) -> tuple[BondFacts, ...]:
        """See `Backend.bonds`."""
        tables = self._tables()
        if not bond_status.bonded_ports(tables):
            return ()
        texts = []
        for command in ("bond/show", "lacp/show"):
            try:
                texts.append(await unixctl.ask(self._control(), command, ()))
            except unixctl.ControlError as error:  # it restarts: what is in its database must do meanwhile
                LOG.warning("the switch does not tell about its bonds", command=command, error=str(error))
                texts.append("")
        return bond_status.read(self._tables(), *texts)

    def software(self) -> tuple[tuple[str, str], ...]:
        """See `Backend.software`."""
        return (("openvswitch", self._tables().ovs_version or self._version),)

    async def _apply(self, before: HostNetwork, after: HostNetwork, touched: Touched, strict: bool) -> None:
        touched = replace(touched, devices=touched.devices | displaced(before, after))
        limited = [port for port in after.ports if port.rate_kbytes_per_s]
        unlimited = touched.devices - {port.device for port in limited}
        await self._limits.release(unlimited)
        made = await self._limits.limit(
            port for port in limited if port.device in touched.devices and index_of(port.device) is not None
        )
        await self._forget({limiter_of(device) for device in made})
        tables = self._tables()
        ofports = _Ofports(tables)
        layout = layout_of(before, after, touched, datapath_type=self._datapath_type, ofport_of=ofports.of)
        ofports.remember_in(layout)
        if leaving := operations_for(tunnels_first(layout, tables), tables):
            await self._session.transact(leaving)
            tables = self._tables()
        form = forming(layout, tables)
        changes = operations_for(form.layout if form else layout, tables)
        first, last = self._flow_changes(before, after, touched, tables, ofports)
        for bridge, lines in first.items():
            await self._keeper.send(bridge, lines)
        await self._limits.emptied(unlimited)
        if changes:
            await self._session.transact(changes)
            await self._take_over_renamed()
        if form is not None:
            await self._until_formed(form.bonds)
            await self._session.transact(operations_for(layout, self._tables()))
        now = self._tables()
        self._keeper.keep(secure_bridges(now))
        self._require_connected(now, layout, strict)
        for bridge in _secure_in(layout):
            await self._keeper.ready(bridge)
        for bridge, lines in last.items():
            if bridge in now.bridges:
                await self._keeper.send(bridge, lines)
        await self._limits.end({port.device for port in limited})

    async def _tend_interfaces(self, steps: Sequence[Step], strict: bool) -> None:
        """Sees to it that no interface of a bridge that is gone stays with its addresses. Raises LinkError, OSError."""
        if self._datapath_type == KERNEL_DATAPATH:  # the switch finds there what it has made before
            return
        with_addresses: list[str] = []
        looks = not strict
        for step in steps:
            match step:
                case CreateBridge(bridge=Bridge(name=name, ip=ip)) | SetAddresses(name=name, new=ip):
                    with_addresses += [name] if ip != NO_IP else []
                case DestroyBridge():
                    looks = True
                case _:
                    pass
        await left_behind.mark(with_addresses)
        if looks:
            await left_behind.delete(self._tables().ports)

    async def _forget(self, names: Collection[str]) -> None:
        """Takes ports out of the switch whose links are new: it would go on with those that were there before."""
        tables = self._tables()
        gone = Layout(ports=dict.fromkeys(sorted(names & tables.ports.keys())))
        if changes := operations_for(gone, tables):
            await self._session.transact(changes)

    async def _take_over_renamed(self) -> None:
        """Connects NICs that the kernel has named anew, and that its datapath still has for the interface of old.

        The switch looks there for the old name, finds none to take out, and cannot add the NIC a second time.
        """
        if self._datapath_type != KERNEL_DATAPATH:
            return
        held = [
            interface.name
            for port in self._tables().ports.values()
            if port.role is Role.UPLINK
            for interface in port.interfaces
            if _HELD in interface.text("error")
        ]
        if not held:
            return
        LOG.warning("NICs are taken out of the datapath, which has them by their former names", nics=held)
        try:
            socket = self._control()
            shown = await unixctl.ask(socket, "dpctl/show", (_KERNEL_DATAPATH_NAME,))
            for number, name in _PORT_SHOWN.findall(shown):
                if name in held:  # by its number: the kernel does not find it by either name
                    await unixctl.ask(socket, "dpctl/del-if", (_KERNEL_DATAPATH_NAME, number))
        except unixctl.ControlError as error:
            LOG.warning("a NIC cannot be taken out of the datapath", error=str(error))
        await self._session.transact(())  # has the switch try again

    async def _until_formed(self, names: Collection[str]) -> None:
        """Waits until these bonds have found their LACP partner, or found that they have none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FORMING_S):
                while not has_formed(await self.bonds(), names):  # noqa: ASYNC110 - the switch does not tell
                    await asyncio.sleep(FORMING_LOOK_S)

    def _flow_changes(
        self,
        before: HostNetwork,
        after: HostNetwork,
        touched: Touched,
        tables: Tables,
        ofports: _Ofports,
    ) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Per bridge that exists already: the flow changes before the transaction, and those after it."""
        first: dict[str, list[str]] = {}
        last: dict[str, list[str]] = {}
        old_bridges, new_bridges = _by_name(before), _by_name(after)
        old_ports = {port.device: port for port in before.ports if port.device in touched.devices}
        new_ports = {port.device: port for port in after.ports if port.device in touched.devices}
        for device in sorted(touched.devices):
            old, new = old_ports.get(device), new_ports.get(device)
            was_on = switch_bridge_of(old, old_bridges) if old and old.bridge in old_bridges else ""
            is_on = switch_bridge_of(new, new_bridges) if new else ""
            limiter = limiter_of(device)
            there = ofports.there(limiter, was_on)
            if there is not None and (was_on != is_on or new is None or not new.rate_kbytes_per_s):
                last.setdefault(was_on, []).append(limiters.deletion(there))
                if was_on == is_on:
                    first.setdefault(was_on, []).append(limiters.way_in_deletion(there))
            if new is not None and new.rate_kbytes_per_s and is_on in tables.bridges:
                # Frames that a running guest sends are lost as long as its limiter is not there.
                when = last if was_on == is_on and ofports.there(limiter, is_on) is None else first
                way = limiters.flows(ofports.of(device, is_on), ofports.of(limiter, is_on))
                when.setdefault(is_on, []).extend(f"add {line}" for line in way)
            if was_on and was_on != is_on and (ofport := ofports.there(device, was_on)) is not None:
                last.setdefault(was_on, []).append(f"delete cookie={port_cookie(ofport):#x}/-1")
            if new is None or (old is not None and was_on == is_on and old.lock == new.lock):
                continue
            ofport = ofports.of(device, is_on)
            added = [f"add {line}" for line in self._port_text(device, new.lock, ofport).splitlines()]
            if is_on in tables.bridges:  # a new bridge gets all its flows at once
                if was_on == is_on:
                    added.insert(0, f"delete cookie={port_cookie(ofport):#x}/-1")
                first.setdefault(is_on, []).extend(added)
        return first, last

    def _port_text(self, device: str, lock: PortLock, ofport: int) -> str:
        try:
            return self._texts.of_port(lock, ofport)
        except ValueError as error:
            raise ApplyFailed(
                Fault.SWITCH_FAILED, f"the lock of {device} is impossible: {error}", device
            ) from error

    def _require_connected(self, tables: Tables, layout: Layout, strict: bool) -> None:
        """Every interface of the layout is there, without an error and under the number that its flows are for."""
        for name, row in layout.ports.items():
            port = tables.ports.get(name)
            if row is None:
                continue
            if port is None:
                raise ApplyFailed(Fault.SWITCH_FAILED, f"{name} is not in the switch", name)
            for interface in port.interfaces:
                error = interface.text("error")
                wanted, got = interface.number("ofport_request"), interface.number("ofport")
                if not error and got is not None and got >= 0 and wanted in (None, got):
                    continue
                reason = error or _unopened(got, wanted)
                if port.role is Role.UPLINK and not strict:
                    LOG.warning("an uplink is not connected", device=interface.name, error=reason)
                    continue
                fault = Fault.NO_DEVICE if index_of(interface.name) is None else Fault.SWITCH_FAILED
                raise ApplyFailed(fault, f"{interface.name} is not connected: {reason}", interface.name)

    def _control(self) -> Path:
        """Where the switch takes commands. Raises unixctl.ControlError when it does not run."""
        return unixctl.control_socket(self._run_dir, "ovs-vswitchd")

    def _expected_flows(self, bridge: str) -> str:
        tables = self._session.tables()
        self._texts.forget_others(tables)
        row = tables.bridges.get(bridge)
        return "" if row is None else self._texts.of_bridge(row)

    def _tables(self) -> Tables:
        try:
            return self._session.tables()
        except SwitchGone as error:
            raise BackendGone(str(error)) from error

    def _on_change(self) -> None:
        if not self._turn.locked():
            self._keeper.keep(secure_bridges(self._session.tables()))
        self._changed()


class _Ofports:
    """The port numbers of the guest ports of a plan: those that are there stay, the others are chosen."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._chosen: dict[tuple[str, str], int] = {}
        self._next: dict[str, int] = {}
        self._used: dict[str, set[int]] = {}

    def there(self, device: str, bridge: str) -> int | None:
        """The number of a guest's or a limiter's port that is on this bridge of the switch."""
        port = self._tables.ports.get(device)
        if port is None or port.bridge != bridge or not port.interfaces:
            return None
        if port.role not in (Role.GUEST, Role.LIMITER):
            return None
        ofport = port.interfaces[0].number("ofport_request")
        return ofport if ofport is not None and OFPORT_MIN <= ofport <= OFPORT_MAX else None

    def of(self, device: str, bridge: str) -> int:
        """The number that a guest port has or gets on this bridge. Raises NoFreePort."""
        key = (device, bridge)
        if key not in self._chosen:
            self._chosen[key] = self.there(device, bridge) or self._choose(bridge)
        return self._chosen[key]

    def remember_in(self, layout: Layout) -> None:
        """Writes which number is next into the rows of the bridges."""
        for bridge, ofport in self._next.items():
            row = self._tables.bridges.get(bridge)
            columns = layout.bridges.get(bridge)
            external_ids: dict[str, str]
            if columns is not None:
                ids = columns["external_ids"]
                external_ids = {str(k): str(v) for k, v in ids.items()} if isinstance(ids, Mapping) else {}
            elif row is not None:
                external_ids = row.map("external_ids")
                columns = {}
            else:
                continue
            external_ids[marks.NEXT_OFPORT] = str(ofport)
            layout.bridges[bridge] = {**columns, "external_ids": external_ids}

    def _choose(self, bridge: str) -> int:
        row = self._tables.bridges.get(bridge)
        if bridge not in self._used:
            interfaces = [i for port in row.ports for i in port.interfaces] if row else []
            numbers = (i.number(column) for i in interfaces for column in ("ofport", "ofport_request"))
            self._used[bridge] = {number for number in numbers if number is not None}
            text = row.map("external_ids").get(marks.NEXT_OFPORT, "") if row else ""
            self._next[bridge] = int(text) if text.isdecimal() else OFPORT_MIN
        ofport = next_ofport(self._next[bridge], self._used[bridge])
        self._used[bridge].add(ofport)
        self._next[bridge] = ofport + 1
        return ofport


def _unopened(got: int | None, wanted: int | None) -> str:
    """Why an interface does not work that has no error: the switch tells its log alone what a whole bridge lacks."""
    if got is None:
        return (
            "the switch has not opened it, and its log says why (is there the kernel's module openvswitch?)"
        )
    return f"it got the port number {got}, not {wanted}"


def _by_name(network: HostNetwork) -> dict[str, Bridge]:
    return {bridge.name: bridge for bridge in network.bridges}


def _secure_in(layout: Layout) -> Iterator[str]:
    for name, columns in layout.bridges.items():
        if columns is not None and one_of(columns.get("fail_mode"), str, "") == "secure":
            yield name
