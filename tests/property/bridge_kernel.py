"""A model of what the kernel does with links: it refuses what the bridging, bonding and 802.1Q drivers refuse.

The real drivers for bonds and VLANs are in the User Mode Linux lane only; there the same states are carried out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from poolnet.hostd.linuxbridge import bonds
from poolnet.hostd.linuxbridge.changes import Changes
from poolnet.hostd.linuxbridge.names import TUNNELS
from poolnet.hostd.netlink_codec import Link
from poolnet.hostd.netlink_links import Change, DeleteLinks, NewLink, SetFarEnd, SetLink

RANDOM_MAC = "06:00:00:00:00:06"


@dataclass
class Device:
    """A link of the model."""

    index: int
    kind: str = ""
    mac: str = RANDOM_MAC
    own_mac: str = RANDOM_MAC
    mtu: int = 1500
    own_mtu: int = 1500
    group: int = 0
    master: str = ""
    lower: str = ""
    up: bool = False
    mtu_is_set: bool = False
    data: dict[int, bytes] = field(default_factory=dict)
    port_data: dict[int, bytes] = field(default_factory=dict)
    far_ends: frozenset[str] = frozenset()


class Kernel:
    """Links by name, changed as the kernel changes them; an AssertionError is what it would refuse."""

    def __init__(self, nics: Iterable[str], guests: Iterable[str]) -> None:
        self.devices: dict[str, Device] = {}
        self._next = 1
        for number, name in enumerate((*nics, *guests)):
            mac = f"02:00:00:00:01:{number:02x}"
            self.devices[name] = Device(index=self._index(), mac=mac, own_mac=mac, kind="veth")

    def links(self) -> dict[str, Link]:
        """What a dump would tell."""
        return {
            name: Link(
                index=device.index,
                name=name,
                kind=device.kind,
                mac=device.mac,
                mtu_bytes=device.mtu,
                group=device.group,
                master=self._index_of(device.master),
                lower=self._index_of(device.lower),
                is_up=device.up,
                has_carrier=device.up,
                data=dict(device.data),
                port_data=dict(device.port_data),
                far_ends=device.far_ends,
            )
            for name, device in self.devices.items()
        }

    def carry_out(self, changes: Changes) -> None:
        """All of them; what must hold in between is checked after each."""
        for change in all_of(changes):
            self._change(change)
            self._check()

    def _change(self, change: Change) -> None:
        match change:
            case NewLink():
                self._make(change)
            case SetLink():
                self._set(change, self.devices[change.name])
            case DeleteLinks(names=names):
                for name in names:
                    self._delete(name)
            case SetFarEnd(name=name, address=address, there=there):
                device = self.devices[name]
                assert device.kind == "vxlan"
                ends = device.far_ends
                device.far_ends = ends | {address} if there else ends - {address}

    def _make(self, link: NewLink) -> None:
        assert link.name not in self.devices, link
        if link.lower:
            assert link.kind == "vlan"
            assert link.mtu_bytes <= self.devices[link.lower].mtu, (
                "an 802.1Q device is no larger than its lower"
            )
        if link.kind in TUNNELS:
            twins = [d for d in self.devices.values() if d.kind == link.kind and d.data == dict(link.data)]
            assert not twins, f"{link.name}: there is one like it already"
        mac = link.mac or (self.devices[link.lower].mac if link.lower else RANDOM_MAC)
        self.devices[link.name] = Device(
            index=self._index(),
            kind=link.kind,
            mac=mac,
            mtu=link.mtu_bytes,
            group=link.group,
            lower=link.lower,
            data=dict(link.data),
        )

    def _set(self, change: SetLink, device: Device) -> None:
        if change.mac is not None:
            device.mac = change.mac
        if change.mtu_bytes is not None:
            self._set_mtu(change.name, device, change.mtu_bytes)
        if change.data:
            if bonds.needs_down(change.data):
                assert not device.up, f"{change.name} is up"
            if bonds.needs_empty(change.data):
                assert not self._ports_of(change.name), f"{change.name} has members"
                device.data.clear()
            device.data.update(change.data)
        if change.master is not None:
            self._release(change.name, device)
            if change.master:
                self._join(device, change.master)
        if change.port_data:
            assert self.devices[device.master].kind == change.port_kind
            device.port_data.update(change.port_data)
        if change.up is not None:
            device.up = change.up

    def _set_mtu(self, name: str, device: Device, mtu: int) -> None:
        if device.mtu == mtu:
            return
        if device.kind == "vlan":
            assert mtu <= self.devices[device.lower].mtu
        device.mtu = mtu
        device.mtu_is_set = True
        for other in self.devices.values():
            if other.lower == name:
                other.mtu = min(other.mtu, mtu)
            if other.master == name and device.kind == "bond":
                other.mtu = mtu

    def _join(self, device: Device, master_name: str) -> None:
        master = self.devices[master_name]
        device.master = master_name
        if master.kind == "bond":
            assert not device.up, "a member of a bond must be down first"
            device.own_mtu = device.mtu
            device.mac, device.mtu, device.up = master.mac, master.mtu, True
        elif not master.mtu_is_set:
            master.mtu = min(self.devices[port].mtu for port in self._ports_of(master_name))

    def _release(self, name: str, device: Device) -> None:
        master = self.devices.get(device.master)
        if master is not None and master.kind == "bond":
            device.mac, device.mtu, device.up = device.own_mac, device.own_mtu, False
            if self._ports_of(device.master) == [name]:
                master.mac = RANDOM_MAC
        device.master = ""
        device.port_data.clear()

    def _delete(self, name: str) -> None:
        for port in self._ports_of(name):
            self._release(port, self.devices[port])
        for upper in [upper for upper, device in self.devices.items() if device.lower == name]:
            self._delete(upper)
        self.devices.pop(name, None)

    def _check(self) -> None:
        for name, device in self.devices.items():
            assert not device.master or device.master in self.devices, name
            if device.master and self.devices[device.master].kind == "bond":
                assert not any(other.master and other.lower == name for other in self.devices.values()), (
                    f"{name} is in a bond and under a port of a bridge"
                )
            assert not (device.kind in TUNNELS and device.master and device.up) or device.port_data, (
                f"{name} is not isolated from the other ends"
            )

    def _ports_of(self, name: str) -> list[str]:
        return [port for port, device in self.devices.items() if device.master == name]

    def _index(self) -> int:
        self._next += 1
        return self._next

    def _index_of(self, name: str) -> int:
        return self.devices[name].index if name in self.devices else 0


def all_of(changes: Changes) -> Iterator[Change]:
    """The changes in their order."""
    for part in (changes.clear, changes.make, changes.prepare, changes.join, changes.delete):
        yield from part
