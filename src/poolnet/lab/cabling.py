"""How are a lab's NICs and cables made, pulled and taken away? A NIC is one end of a veth pair, its switch port the other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from poolnet.lab import machine, switch
from poolnet.lab.state import Lab, LabError, LabHost, Nic, mac_of, switch_port


async def lay(lab: Lab, hosts: Sequence[LabHost]) -> None:
    """Make all NICs of these hosts; both machines' inits run already. The other end comes up unless it is pulled.

    The NICs compute checksums themselves: the switches here pass frames on without completing them.
    """
    pairs = [(host, nic) for host in hosts for nic in host.nics]
    lines = []
    for host, nic in pairs:
        end = f"type veth peer name {switch_port(host.name, nic.name)} netns {lab.switch_pid}"
        lines.append(f"link add name {nic.name} address {nic.mac} netns {host.pid} {end}")
    await machine.run("ip", "-batch", "-", text="\n".join(lines))
    up = [f"link set {switch_port(host.name, nic.name)} up" for host, nic in pairs if nic.plugged]
    in_switch = _in_network(lab.switch_pid)
    await machine.run(*in_switch, "ip", "-batch", "-", text="\n".join(up))
    for host, nic in pairs:
        await machine.run(*_in_network(host.pid), "ethtool", "-K", nic.name, "tx", "off")


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
    """Take a NIC out of a running host. Raises LabError when it has no such NIC."""
    nic = _nic(host, name)
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
