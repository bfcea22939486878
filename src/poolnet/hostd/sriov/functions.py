"""Which NICs have their virtual functions from us, and which guest's is each function? Makes it so.

`apply` carries out the steps about virtual functions here, for every backend, and adds what is observed to what the
backend observes. What we have switched on is kept on disk: functions that somebody else made are not ours to end, and
those that a boot has taken are switched on again. A NIC has all its functions or, after a failure, none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import structlog

from poolnet.hostd.backend import ApplyFailed
from poolnet.hostd.checkpoint import read_state, write_durably
from poolnet.hostd.netlink import LinkError
from poolnet.hostd.netlink_functions import NO_MAC, FunctionsLink, Treatment
from poolnet.hostd.sriov.driver_options import DriverOptions
from poolnet.hostd.sriov.sysfs import Sysfs
from poolnet.hostnet.facts import RATE, SPOOF_CHECK, FunctionFacts, NicFacts, SriovFacts
from poolnet.hostnet.protocol import Fault
from poolnet.hostnet.state import FunctionsMode, HostNetwork, SriovNic, VirtualFunction
from poolnet.hostnet.steps import DisableFunctions, EnableFunctions, SetFunction, Step

LOG = structlog.stdlib.get_logger("poolnet.hostd.sriov")
LOOK_S: Final = 0.05
LOOKS: Final = 600  # half a minute, until the kernel has made all functions, of which there may be 256


class _Kept(msgspec.Struct, kw_only=True):
    """A NIC whose functions are ours to manage: how it has them, what each was given, what the NIC cannot do of that.

    Drivers may refuse a rate because the NIC has no link at the moment: functions of which that may be so are `unsure`.
    """

    mode: FunctionsMode
    functions: dict[str, VirtualFunction] = {}
    refused: dict[str, list[str]] = {}
    unsure: list[str] = []


class Functions:
    """The virtual functions of this host's NICs."""

    def __init__(self, state_dir: Path, sysfs: Sysfs, link: FunctionsLink, options: DriverOptions) -> None:
        self._path = state_dir / "sriov.json"
        self._sysfs = sysfs
        self._link = link
        self._options = options
        self._failed: dict[str, str] = {}
        self._kept = read_state(self._path, dict[str, _Kept], {})

    def observe(self) -> tuple[SriovNic, ...]:
        """The NICs that have their functions from us, and how the functions in use are treated."""
        return tuple(
            SriovNic(device=nic, mode=kept.mode, functions=tuple(self._observed(nic, kept)))
            for nic, kept in sorted(self._kept.items())
            if self._is_on(nic, kept)
        )

    def facts(self, nic: NicFacts) -> NicFacts:
        """The same with what it can do with virtual functions."""
        total = self._sysfs.total(nic.name)
        if total == 0:
            return nic
        driver = self._sysfs.driver(nic.name)
        option, damage = self._options.read(driver)
        most = total if option is None else min(total, option.count_max)
        return replace(
            nic,
            sriov=SriovFacts(
                functions_max=most,
                functions_now=self._sysfs.count(nic.name),
                by_module=option is not None,
                damage=damage,
                failed=self._failed.get(nic.name, ""),
                functions=self._with_refusals(nic.name),
            ),
        )

    def _with_refusals(self, nic: str) -> tuple[FunctionFacts, ...]:
        kept = self._kept.get(nic)
        refused = {} if kept is None else kept.refused
        return tuple(
            replace(one, refused=tuple(refused.get(one.pci_bus_path, ())))
            for one in self._sysfs.functions(nic)
        )

    def try_again(self) -> None:
        """Sets the rates that NICs refused while they had no link and may take now that they have one."""
        for nic, kept in self._kept.items():
            if not kept.unsure or not self._sysfs.has_carrier(nic):
                continue
            unsure, kept.unsure = kept.unsure, []
            for address in unsure:
                if address in kept.functions:
                    kept.refused[address].remove(RATE)
                    with suppress(ApplyFailed):  # the function is gone
                        self._limit(nic, self._number(nic, address), kept.functions[address])
            self._store()

    def possible(self, network: HostNetwork) -> HostNetwork:
        """The state without NICs that could not be given functions, and functions that are not there."""
        there = {nic.device: self._sysfs.addresses(nic.device) for nic in network.sriov}
        possible = tuple(
            replace(nic, functions=tuple(one for one in nic.functions if one.address in there[nic.device]))
            for nic in network.sriov
            if nic.device not in self._failed and self._sysfs.total(nic.device)
        )
        return replace(network, sriov=possible) if possible != network.sriov else network

    def rename_nics(self, names: Mapping[str, str]) -> None:
        """Follows the new names of NICs. Raises OSError."""
        if names.keys() & self._kept.keys():
            self._kept = {names.get(nic, nic): kept for nic, kept in self._kept.items()}
            self._store()

    async def apply(self, steps: Iterable[Step], *, strict: bool = True) -> None:
        """Carries out what the steps say about virtual functions; without `strict` the others go on after a failure.

        Raises ApplyFailed: FUNCTIONS_FAILED for a NIC that does not get or lose its functions, SWITCH_FAILED for one
        function that cannot be prepared; or OSError when our own notes cannot be written.
        """
        for step in steps:
            try:
                match step:
                    case EnableFunctions(device=nic, mode=mode):
                        await self._enable(nic, mode)
                    case DisableFunctions(device=nic):
                        await self._disable(nic)
                    case SetFunction(device=nic, new=VirtualFunction() as new):
                        self._prepare(nic, new)
                    case SetFunction(device=nic, old=VirtualFunction(address=address)):
                        self._reset(nic, address)
                    case _:
                        pass
            except (ApplyFailed, OSError) as error:
                if strict:
                    raise
                LOG.warning("virtual functions are not as they should be", step=str(step), error=str(error))

    # --- on and off --------------------------------------------------------------------------------------------

    async def _enable(self, nic: str, mode: FunctionsMode) -> None:
        self._failed.pop(nic, None)
        self._kept[nic] = _Kept(mode=mode)
        self._store()  # before anything changes: what is switched on is ours even if we die now
        try:
            match mode:
                case FunctionsMode.SYSFS:
                    await self._switch_on(nic)
                case FunctionsMode.MODPROBE:
                    await self._options.set_count(self._sysfs.driver(nic), self._sysfs.total(nic))
                case FunctionsMode.MANUAL:
                    self._require_made(nic)
        except ApplyFailed as error:
            self._failed[nic] = str(error)
            del self._kept[nic]
            self._store()
            raise ApplyFailed(error.fault, str(error), nic) from error

    def _require_made(self, nic: str) -> None:
        if self._sysfs.count(nic) == 0:
            raise ApplyFailed(Fault.FUNCTIONS_FAILED, "nobody has made virtual functions", nic)

    async def _switch_on(self, nic: str) -> None:
        """All functions that the hardware can have, or none of them."""
        total, before = self._sysfs.total(nic), self._sysfs.count(nic)
        if total == 0:
            raise ApplyFailed(Fault.FUNCTIONS_FAILED, "the NIC has no virtual functions", nic)
        try:
            if before != total:
                await asyncio.to_thread(self._sysfs.set_count, nic, total)
            if self._sysfs.count(nic) == total:
                await self._until(lambda: len(self._sysfs.addresses(nic)) == total)
            self._require_all(nic, total)
        except OSError as error:  # a TimeoutError is one
            now = self._sysfs.count(nic)
            if before == 0:
                with suppress(OSError):
                    await asyncio.to_thread(self._sysfs.set_count, nic, 0)
            text = f"{now} of {total} virtual functions came"
            reason = error.strerror or str(error)
            raise ApplyFailed(Fault.FUNCTIONS_FAILED, f"{text}: {reason}" if reason else text, nic) from error

    def _require_all(self, nic: str, total: int) -> None:
        if self._sysfs.count(nic) != total:
            raise OSError

    async def _disable(self, nic: str) -> None:
        kept = self._kept[nic]
        try:
            match kept.mode:
                case FunctionsMode.SYSFS:
                    await self._switch_off(nic)
                case FunctionsMode.MODPROBE:
                    driver = self._sysfs.driver(nic)
                    if not self._others_by_option(nic, driver):
                        await self._options.set_count(driver, 0)
                case FunctionsMode.MANUAL:
                    pass
        except ApplyFailed as error:
            raise ApplyFailed(error.fault, str(error), nic) from error
        del self._kept[nic]
        self._store()

    async def _switch_off(self, nic: str) -> None:
        for address in self._sysfs.addresses(nic):
            with suppress(OSError):  # a driver that does not let go is the kernel's to overrule
                self._sysfs.unbind(address)
        try:
            if self._sysfs.count(nic):
                await asyncio.to_thread(self._sysfs.set_count, nic, 0)
            await self._until(lambda: self._sysfs.count(nic) == 0)
        except OSError as error:
            text = f"the NIC keeps {self._sysfs.count(nic)} virtual functions: {error}"
            raise ApplyFailed(Fault.FUNCTIONS_FAILED, text, nic) from error

    async def _until(self, done: Callable[[], bool]) -> None:
        """Waits for the kernel. Raises TimeoutError."""
        for _ in range(LOOKS):
            if done():
                return
            await asyncio.sleep(LOOK_S)
        raise TimeoutError

    def _others_by_option(self, nic: str, driver: str) -> bool:
        """Does another NIC have its functions by the same option?"""
        return any(
            kept.mode is FunctionsMode.MODPROBE and self._sysfs.driver(other) == driver
            for other, kept in self._kept.items()
            if other != nic
        )

    def _is_on(self, nic: str, kept: _Kept) -> bool:
        if kept.mode is FunctionsMode.MODPROBE:
            return self._options.is_set(self._sysfs.driver(nic), self._sysfs.total(nic))
        return self._sysfs.count(nic) > 0

    # --- one function ------------------------------------------------------------------------------------------

    def _observed(self, nic: str, kept: _Kept) -> Iterable[VirtualFunction]:
        if not kept.functions:
            return
        try:
            there = self._link.read(nic)
        except LinkError:
            return
        addresses = self._sysfs.addresses(nic)
        for address, asked in sorted(kept.functions.items()):
            live = there.get(addresses.index(address)) if address in addresses else None
            if live is not None:
                yield _as_observed(asked, live, kept.refused.get(address, []))

    def _prepare(self, nic: str, new: VirtualFunction) -> None:
        """Before its guest has it: MAC, VLAN, no other MAC, no trust, link, rate. Only what differs is written."""
        kept = self._kept.get(nic)
        number = self._number(nic, new.address)
        if kept is None:
            raise ApplyFailed(Fault.SWITCH_FAILED, "the NIC's virtual functions are not switched on", nic)
        refused: list[str] = []
        kept.functions[new.address] = new
        kept.refused[new.address] = refused
        kept.unsure = [address for address in kept.unsure if address != new.address]
        self._store()
        try:
            live = self._link.read(nic).get(number, Treatment())
            if live.vlan_tag != new.vlan_tag:
                self._link.set_vlan(nic, number, new.vlan_tag)
            if live.mac != new.mac:
                self._link.set_mac(nic, number, new.mac)
            if live.connected != new.connected:
                self._link.set_connected(nic, number, connected=new.connected)
        except LinkError as error:
            self._reset(nic, new.address)
            text = f"virtual function {new.address} cannot be prepared: {error}"
            raise ApplyFailed(Fault.SWITCH_FAILED, text, nic) from error
        if not live.spoof_checked:
            self._try(
                nic,
                new.address,
                refused,
                SPOOF_CHECK,
                lambda: self._link.set_spoof_check(nic, number, on=True),
            )
        if live.trusted:
            self._try(nic, new.address, [], "trust", lambda: self._link.set_trust(nic, number, on=False))
        if live.rate_mbits_per_s != new.rate_mbits_per_s:
            self._limit(nic, number, new)
        self._store()

    def _limit(self, nic: str, number: int, new: VirtualFunction) -> None:
        kept, rate = self._kept[nic], new.rate_mbits_per_s
        refused = kept.refused[new.address]
        self._try(nic, new.address, refused, RATE, lambda: self._link.set_rate(nic, number, rate))
        if RATE in refused and not self._sysfs.has_carrier(nic):
            kept.unsure.append(new.address)

    def _reset(self, nic: str, address: str) -> None:
        """For the next guest: nothing of the last one is left, as far as the NIC can forget it."""
        kept = self._kept.get(nic)
        with suppress(ApplyFailed, LinkError):  # the function, or the whole NIC, is gone
            number = self._number(nic, address)
            live = self._link.read(nic).get(number, Treatment())
            if live.rate_mbits_per_s:
                self._try(nic, address, [], RATE, lambda: self._link.set_rate(nic, number, 0))
            if live.mac != NO_MAC:
                self._try(nic, address, [], "MAC", lambda: self._link.set_mac(nic, number, NO_MAC))
            if live.vlan_tag:
                self._try(nic, address, [], "VLAN", lambda: self._link.set_vlan(nic, number, 0))
            if not live.connected:
                self._try(
                    nic, address, [], "link", lambda: self._link.set_connected(nic, number, connected=True)
                )
        if kept is not None:
            kept.functions.pop(address, None)
            kept.refused.pop(address, None)
            kept.unsure = [other for other in kept.unsure if other != address]
            self._store()

    def _try(self, nic: str, address: str, refused: list[str], what: str, change: Callable[[], None]) -> None:
        """A setting that not every NIC knows."""
        try:
            change()
        except LinkError as error:
            refused.append(what)
            LOG.warning(
                "a NIC cannot do something for a virtual function",
                nic=nic,
                function=address,
                setting=what,
                error=str(error),
            )

    def _number(self, nic: str, address: str) -> int:
        addresses = self._sysfs.addresses(nic)
        if address not in addresses:
            raise ApplyFailed(Fault.NO_DEVICE, f"{nic} has no virtual function {address}", nic)
        return addresses.index(address)

    def _store(self) -> None:
        write_durably(self._path, msgspec.json.encode(self._kept))


def _as_observed(asked: VirtualFunction, live: Treatment, refused: list[str]) -> VirtualFunction:
    """What a NIC cannot do counts as done: it was told of (see `facts`), and there is nobody to do it."""
    return replace(
        asked,
        mac=live.mac,
        vlan_tag=live.vlan_tag,
        rate_mbits_per_s=asked.rate_mbits_per_s if RATE in refused else live.rate_mbits_per_s,
        connected=live.connected,
        spoof_checked=live.spoof_checked or SPOOF_CHECK in refused,
    )
