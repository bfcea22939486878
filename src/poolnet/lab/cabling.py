"""How are a lab's NICs and cables made, pulled and taken away? A NIC is one end of a veth pair, its switch port the other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from poolnet.lab import machine, switch
from poolnet.lab.state import Lab, LabError, LabHost, Nic, mac_of, switch_port


async def lay(lab: Lab, hosts: Sequence[LabHost]) -> None:
    """Make all NICs of these hosts; both machines' inits run already. The other end comes up unless it is pulled.

    The NICs compute checksums themselves: the switches here pass frames on without completing them. The other ends are
    ports of a switch, so the kernel there must not answer what comes in on them.
    """
    pairs = [(host, nic) for host in hosts for nic in host.nics]
    lines = []
    for host, nic in pairs:
        end = f"type veth peer name {switch_port(host.name, nic.name)} netns {lab.switch_pid}"
        lines.append(f"link add name {nic.name} address {nic.mac} netns {host.pid} {end}")
    await machine.run("ip", "-batch", "-", text="\n".join(lines))
    settings = [setting for host, nic in pairs for setting in _silent(switch_port(host.name, nic.name))]
    await machine.run(*_in_network(lab.switch_pid), "sh", "-c", "; ".join(settings))
    up = [f"link set {switch_port(host.name, nic.name)} up" for host, nic in pairs if nic.plugged]
    in_switch = _in_network(lab.switch_pid)
    await machine.run(*in_switch, "ip", "-batch", "-", text="\n".join(up))
    for host, nic in pairs:
        await machine.run(*_in_network(host.pid), "ethtool", "-K", nic.name, "tx", "off")


def _silent(port: str) -> tuple[str, ...]:
    """The shell's words that keep a machine's own network stack from speaking on one of its interfaces."""
    own = {"ipv4": {"arp_ignore": 8, "rp_filter": 1}, "ipv6": {"disable_ipv6": 1}}
    files = (
        (f"/proc/sys/net/{family}/conf/{port}/{name}", value)
        for family, values in own.items()
        for name, value in values.items()
    )
    return tuple(f"test ! -e {file} || echo {value} > {file}" for file, value in files)


async def tear_out(lab: Lab, host: LabHost) -> None:
    """Remove the switch ends of a host that is down: the kernel does so as well, but later."""
    for nic in host.nics:
        await _delete_end(lab, host, nic)


async def set_link(lab: Lab, host: LabHost, name: str, *, plugged: bool) -> Lab:
    """Plug or pull a cable; the host loses the carrier. Raises LabError when it has no such NIC."""
    nic = _nic(host, name)
    state = "up" if plugged else "down"
    words = ("ip", "link", "set", switch_port(host.name, name), state)
    await machine.run(*_in_network(lab.switch_pid), *words)
    changed = msgspec.structs.replace(nic, plugged=plugged)
    nics = tuple(changed if old.name == name else old for old in host.nics)
    return lab.with_host(msgspec.structs.replace(host, nics=nics))


async def bundle(lab: Lab, host: LabHost, names: Sequence[str], *, fallback: bool) -> Lab:
    """Let the switch treat the cables of these NICs as one LAG.

    Raises LabError when they are fewer than two, or one is in a LAG already.
    """
    nics = tuple(_nic(host, name) for name in dict.fromkeys(names))
    if len(nics) < 2:
        raise LabError("a LAG has at least two cables")
    for nic in nics:
        if nic.bundle:
            raise LabError(f"{nic.name} of host {host.name} is in a LAG; separate it first")
    await switch.bundle(lab, host, nics, fallback=fallback)
    return lab.with_host(_in_bundle(host, nics, nics[0].name))


async def separate(lab: Lab, host: LabHost, name: str) -> Lab:
    """Let the switch treat the cables of a NIC's LAG each by itself. Raises LabError when it is in none."""
    nics = _bundled(host, _nic(host, name))
    if not nics:
        raise LabError(f"{name} of host {host.name} is in no LAG")
    await switch.separate(lab, host, nics)
    return lab.with_host(_in_bundle(host, nics, ""))


def _bundled(host: LabHost, nic: Nic) -> tuple[Nic, ...]:
    """All NICs of the LAG that a NIC is in."""
    return tuple(one for one in host.nics if one.bundle and one.bundle == nic.bundle)


def _in_bundle(host: LabHost, nics: Sequence[Nic], bundle: str) -> LabHost:
    names = {nic.name for nic in nics}
    changed = (msgspec.structs.replace(n, bundle=bundle) if n.name in names else n for n in host.nics)
    return msgspec.structs.replace(host, nics=tuple(changed))


async def add(lab: Lab, host: LabHost, name: str) -> Lab:
    """Put a NIC into a running host. Raises LabError when it has one of that name."""
    if any(nic.name == name for nic in host.nics):
        raise LabError(f"host {host.name} has a NIC {name} already")
    if not name.startswith("eth") or not name[3:].isdecimal() or len(switch_port(host.name, name)) > 15:
        raise LabError(f"{name!r} is no name for a NIC: eth and a number")
    slot = int(name[3:])
    nic = Nic(name=name, mac=mac_of(lab.name, host.name, slot), slot=slot)
    await lay(lab, (msgspec.structs.replace(host, nics=(nic,)),))
    await switch.connect(lab, host, nic)
    nics = tuple(sorted((*host.nics, nic), key=lambda one: one.slot))
    return lab.with_host(msgspec.structs.replace(host, nics=nics))


async def remove(lab: Lab, host: LabHost, name: str) -> Lab:
    """Take a NIC out of a running host, and its cable out of its LAG. Raises LabError when it has no such NIC."""
    nic = _nic(host, name)
    bundled = _bundled(host, nic)
    if bundled:
        await switch.separate(lab, host, bundled)
        rest = tuple(one for one in bundled if one.name != name)
        if len(rest) > 1:
            await switch.bundle(lab, host, rest, fallback=True)
        host = _in_bundle(host, rest, rest[0].name if len(rest) > 1 else "")
    await switch.disconnect(lab, host, nic)
    await _delete_end(lab, host, nic)
    nics = tuple(old for old in host.nics if old.name != name)
    return lab.with_host(msgspec.structs.replace(host, nics=nics))


def _nic(host: LabHost, name: str) -> Nic:
    for nic in host.nics:
        if nic.name == name:
            return nic
    known = ", ".join(nic.name for nic in host.nics)
    raise LabError(f"host {host.name} has no NIC {name}; it has {known}")


async def _delete_end(lab: Lab, host: LabHost, nic: Nic) -> None:
    """Remove the switch's end, unless the kernel has done so, which it may be doing just now."""
    port = switch_port(host.name, nic.name)
    inside = _in_network(lab.switch_pid)
    try:
        await machine.run(*inside, "ip", "link", "del", port)
    except LabError:
        if port in (await machine.run(*inside, "ip", "-br", "link")).replace("@", " ").split():
            raise


def _in_network(pid: int) -> tuple[str, ...]:
    return ("nsenter", "--target", str(pid), "--net", "--")
