"""How does the Linux bridge carry out a plan? The backend: locks, links in few batches, then what nobody needs any more.

A guest's interface becomes a port only after its lock is loaded, and the lock goes after the port. Before links change,
everything that they may become is written down, so that whatever happens `observe` knows what it finds.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import structlog

from poolnet.hostd import moved_guests, neighbours
from poolnet.hostd.backend import ApplyFailed, BackendGone, Trace
from poolnet.hostd.limits import Limits, Place
from poolnet.hostd.linuxbridge import bonds, proof, slb
from poolnet.hostd.linuxbridge.changes import Absent, Changes, NotOurs, plan
from poolnet.hostd.linuxbridge.filters import Filters, FiltersFailed, transact
from poolnet.hostd.linuxbridge.marks import Marks, both, with_touched
from poolnet.hostd.linuxbridge.observe import observe
from poolnet.hostd.linuxbridge.trunks import guests_of, locks_of
from poolnet.hostd.linuxbridge.tunnels import ends
from poolnet.hostd.netlink import LinkError, Netlink, NetlinkWatch
from poolnet.hostd.netlink_links import OUR_GROUP, LinkRefused, Links, NoteHeard, SetDeaf
from poolnet.hostd.nics import is_nic
from poolnet.hostd.run import CommandFailed, run
from poolnet.hostnet.advance import Touched, advance, touched_by, with_vlans
from poolnet.hostnet.facts import BondFacts, PortFacts
from poolnet.hostnet.protocol import Fault, LocksVerified, PortProof, RuleFound
from poolnet.hostnet.state import NO_IP, GuestPort, HostNetwork, PortLock
from poolnet.hostnet.steps import Step
from poolnet.lock.rule_words import bridge_chain

LOG = structlog.stdlib.get_logger("poolnet.hostd.linuxbridge")
_VERSION = re.compile(r"v([0-9.]+)")


class LinuxBridgeBackend:
    """Implements `Backend` with the kernel's bridges."""

    name: Final = "bridge"

    def __init__(
        self,
        *,
        work_dir: Path,
        nics: Sequence[str],
        netlink: Netlink,
        repaired: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`work_dir` is for our files and gone after a reboot; `nics` are the patterns of the NICs we may touch.

        `repaired` is told in words when somebody else has changed the locks.
        """
        self._nics = nics
        self._netlink = netlink
        self._links = Links(tables_of=OUR_GROUP)
        self._limits = Limits(Place.BEFORE_BRIDGE)
        self._marks = Marks(work_dir / "linuxbridge.json")
        self._changed: Callable[[], None] = lambda: None
        self._filters = Filters(lambda: self._changed(), repaired)
        self._turn = asyncio.Lock()
        self._stack = ExitStack()
        self._slb: slb.Slb | None = None
        self._slb_task: asyncio.Task[None] | None = None
        self._nft_version = ""

    @property
    def takes_offloads(self) -> bool:
        """See `Backend.takes_offloads`."""
        return True

    async def open(self, changed: Callable[[], None]) -> None:
        """See `Backend.open`."""
        self._changed = changed
        try:
            self._stack.enter_context(self._links)
            self._stack.enter_context(self._limits)
            self._marks.read()
            await self._filters.open(locks_of(self._marks.network))
            self._nft_version = await _nft_version()
            await self._follow_slb()
            watch = NetlinkWatch(self._on_links)
            self._stack.callback(watch.close)
        except (OSError, LinkError, FiltersFailed, CommandFailed, ValueError) as error:
            raise BackendGone(str(error)) from error

    async def close(self) -> None:
        """See `Backend.close`."""
        await self._filters.close()
        self._stack.close()
        if self._slb_task is not None:
            await asyncio.wait([self._slb_task])

    async def retire(self) -> None:
        """See `Backend.retire`."""
        async with self._turn:
            try:
                await self._follow_slb()
                await self._filters.remove()
                await self._limits.end(())
            except (LinkError, FiltersFailed, OSError) as error:
                raise ApplyFailed(Fault.SWITCH_FAILED, str(error)) from error

    def unsupported(self, network: HostNetwork) -> tuple[tuple[str, str], ...]:
        """See `Backend.unsupported`: no VLAN on a tunnel, which the rules do not make either."""
        tunnels = {b.name for b in network.bridges if b.uplink is not None and b.uplink.tunnel is not None}
        return tuple(
            (bridge.name, f"{bridge.name} is a VLAN on a tunnel, which Linux bridges do not have")
            for bridge in network.bridges
            if bridge.parent in tunnels
        )

    async def observe(self) -> HostNetwork:
        """See `Backend.observe`."""
        try:
            links = self._links.all()
            asked = self._marks.network
            there = (
                await self._netlink.addresses(ipv6_gateways=False)
                if any(b.ip != NO_IP for b in asked.bridges)
                else {}
            )
            rates = self._limits.rates(port.device for port in asked.ports)
        except (LinkError, OSError) as error:
            raise BackendGone(str(error)) from error
        return observe(links, asked, self._filters.loaded, there, self._our_nics(links), rates)

    async def apply(self, steps: Sequence[Step], *, strict: bool = True) -> None:
        """See `Backend.apply`."""
        if not steps:
            return
        async with self._turn:
            try:
                before = await self.observe()
                await self._apply(before, advance(before, steps), touched_by(steps), strict)
            except Absent as error:
                raise ApplyFailed(Fault.NO_DEVICE, str(error), error.names[0]) from error
            except NotOurs as error:
                raise ApplyFailed(Fault.SWITCH_FAILED, str(error), error.name) from error
            except LinkRefused as error:
                raise ApplyFailed(
                    Fault.SWITCH_FAILED, f"is refused by the kernel: {error.reason}", error.link
                ) from error
            except (LinkError, FiltersFailed, OSError) as error:
                raise ApplyFailed(Fault.SWITCH_FAILED, str(error)) from error
            except KeyError as error:
                raise ApplyFailed(
                    Fault.SWITCH_FAILED, f"a step changes what is not there: {error}"
                ) from error

    async def announce(self, devices: Collection[str]) -> None:
        """See `Backend.announce`. What is sent from an uplink goes out, and not to the bridge itself, which is told besides."""
        try:
            network = await self.observe()
        except BackendGone as error:
            LOG.warning("guests were not announced", devices=sorted(devices), error=str(error))
            return
        guests = guests_of(network)
        here = [
            NoteHeard(name=name, mac=lock.mac)
            for name, lock in locks_of(network).items()
            if guests[name] in devices and lock.mac
        ]
        try:
            await self._links.change(here)
        except (LinkError, OSError, ValueError) as error:
            LOG.warning("guests were not announced", devices=sorted(devices), error=str(error))
        tunnels = {
            bridge.uplink.device: [end.name for end in ends(bridge.uplink)]
            for bridge in network.bridges
            if bridge.uplink is not None and bridge.uplink.tunnel is not None
        }
        for uplink, frames in moved_guests.frames_by_uplink(network, devices).items():
            for link in tunnels.get(uplink, [uplink]):
                moved_guests.send(link, frames)

    async def reopen_nics(self) -> None:
        """Nothing to do: a NIC that is put in anew is in no bridge, which `observe` tells."""

    async def bonds(self) -> tuple[BondFacts, ...]:
        """See `Backend.bonds`."""
        try:
            return bonds.facts(self._links.all())
        except LinkError as error:
            raise BackendGone(str(error)) from error

    def software(self) -> tuple[tuple[str, str], ...]:
        """See `Backend.software`. The bridge itself is the kernel's."""
        return (("nftables", self._nft_version),)

    async def trace(self, device: str, frame: bytes) -> Trace:
        """See `Backend.trace`. The kernel has no dry run: the rules that it has are read and evaluated."""
        network = await self.observe()
        port = network.port(device)
        if port is None:
            raise ApplyFailed(Fault.NO_DEVICE, f"{device} is not a guest port", device)
        try:
            outcome = (await self._filters.model()).sends(device, frame)
        except FiltersFailed as error:
            raise BackendGone(str(error)) from error
        reason = "nothing is wrong with it" if outcome.reason is None else outcome.reason.value
        word = "passes" if outcome.passes else "is dropped"
        return Trace(
            forwarded=outcome.passes,
            text=f"table bridge poolnet: from {device} to {port.bridge} by {' > '.join(outcome.path)}: {word}: {reason}\n",
            counted=outcome.reason,
            path=tuple(bridge_chain(name) for name in outcome.path),
        )

    async def verify(self, ports: Sequence[GuestPort], *, rules: bool) -> LocksVerified:
        """See `Backend.verify`. Between two ports others have their turn."""
        proofs: list[PortProof] = []
        found: tuple[RuleFound, ...] = ()
        try:
            observed = await self.observe()
            if rules:
                found = tuple(proof.rules_found(*await self._filters.as_they_should_be()))
            model = await self._filters.model()
            for port in ports:
                proofs.append(proof.prove(model, observed, self._filters.loaded, port))
                await asyncio.sleep(0)
        except FiltersFailed as error:
            raise BackendGone(str(error)) from error
        return LocksVerified(proofs=tuple(proofs), rules=found)

    async def counters(self, devices: Collection[str]) -> tuple[PortFacts, ...]:
        """See `Backend.counters`."""
        guests = guests_of(self._marks.network)
        wanted = [name for name in self._filters.loaded if not devices or guests.get(name, name) in devices]
        try:
            found = await self._filters.stopped(wanted)
        except FiltersFailed as error:
            raise BackendGone(str(error)) from error
        dropped: dict[str, Counter[str]] = {}
        for name, counts in found.items():
            of_guest = dropped.setdefault(guests.get(name, name), Counter())
            of_guest.update({reason.value: count for reason, count in counts.items()})
        return tuple(
            PortFacts(device=device, dropped=tuple(sorted(counts.items())))
            for device, counts in sorted(dropped.items())
        )

    async def _apply(self, before: HostNetwork, after: HostNetwork, touched: Touched, strict: bool) -> None:
        links = self._links.all()
        touched = with_vlans(touched, before, after)
        changes = plan(links, after, touched, self._our_nics(links), _new_mac, strict=strict)
        asked = with_touched(self._marks.network, after, touched)
        self._marks.write(both(self._marks.network, asked), strict=strict)
        await self._load_locks(locks_of(self._marks.network))
        try:
            limited = [port for port in after.ports if port.rate_kbytes_per_s and port.device in links]
            await self._limits.limit(port for port in limited if port.device in touched.devices)
            await self._change(changes)
            await self._end_limits({port.device for port in limited}, touched.devices)
            await self._load_locks(locks_of(asked))
            self._marks.write(asked, strict=strict)
        finally:
            await self._follow_slb()

    def _our_nics(self, links: Iterable[str]) -> frozenset[str]:
        return frozenset(name for name in links if is_nic(name, self._nics))

    async def _change(self, changes: Changes) -> None:
        await self._links.change(changes.clear)
        await self._links.change(changes.make)
        for name in changes.new_bridges:
            neighbours.speak_for_bridge(name, ipv6=False)
        _silence(changes.new_bonds)
        await self._links.change(changes.prepare)
        _silence(changes.joining)
        await self._links.change(changes.join)
        await self._links.change(changes.delete)

    async def _end_limits(self, kept: Collection[str], touched: Collection[str]) -> None:
        """Removes the limits that are not kept; what waited in those that were touched has been sent by then."""
        unlimited = [device for device in touched if device not in kept]
        await self._limits.release(unlimited)
        await self._limits.emptied(unlimited)
        await self._limits.end(kept)

    async def _load_locks(self, locks: Mapping[str, PortLock]) -> None:
        try:
            await self._filters.load(locks)
        except ValueError as error:
            raise ApplyFailed(Fault.SWITCH_FAILED, f"a lock is impossible: {error}") from error

    def _on_links(self) -> None:
        """A link has changed: another member of a bond may have to take floods in."""
        if not self._turn.locked() and (self._slb_task is None or self._slb_task.done()):
            self._slb_task = asyncio.create_task(self._follow_slb_in_turn(), name="slb")

    async def _follow_slb_in_turn(self) -> None:
        async with self._turn:
            try:
                await self._follow_slb()
            except (LinkError, FiltersFailed, OSError) as error:
                LOG.exception("the rules of a bond cannot be loaded", error=str(error))

    async def _follow_slb(self) -> None:
        """Makes balance-slb what it should be for the links as they are. Raises LinkError or FiltersFailed."""
        links = self._links.all()
        found = slb.slb_of(links, self._marks.network)
        # What an earlier daemon left is unknown: a NIC that stayed deaf would be of no use outside its bond.
        was_deaf = self._our_nics(links) if self._slb is None else self._slb.deaf
        known = self._slb if self._slb is not None else slb.Slb()
        if found == self._slb or (found == known and not was_deaf):
            self._slb = found
            return
        self._slb = None
        hear = [SetDeaf(name=name, deaf=False) for name in sorted(was_deaf - found.deaf) if name in links]
        await self._links.change(hear)
        if found.bonds != known.bonds:
            await transact(slb.ruleset(found.bonds))
        await self._links.change([SetDeaf(name=name, deaf=True) for name in sorted(found.deaf)])
        self._slb = found


def _silence(names: Iterable[str]) -> None:
    for name in names:
        neighbours.silence_uplink(name)


def _new_mac() -> str:
    """A random address of the range that nobody owns."""
    first, *rest = os.urandom(6)
    return bytes((first & 0xFC | 0x02, *rest)).hex(":")


async def _nft_version() -> str:
    found = _VERSION.search((await run(("nft", "--version"))).stdout)
    return found[1] if found else ""
