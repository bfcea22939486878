"""What is the lab's physical switch? Called by `lab/life.py` and `lab/cabling.py`.

An Open vSwitch in its own machine. Every port is a trunk of all VLANs and speaks LLDP; ports can be bundled to a LAG that
speaks LACP, and an access VLAN is set with `poolnet lab exec switch -- ovs-vsctl …`. Its own port is in the management
network, where the loopback forwards start from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from poolnet.lab import machine
from poolnet.lab.init import Service
from poolnet.lab.state import SWITCH, Lab, LabHost, Nic, switch_port

BRIDGE = "switch0"
_MAC = "02:00:00:00:00:fe"  # its own port's, which else were the lowest of all its ports' and changed as they come and go
_NICS_PER_HOST_MAX = 64


def services(lab: Lab, forwards: tuple[str, ...], fds: tuple[int, ...], python: str) -> tuple[Service, ...]:
    """The switch's services; `forwards` and `fds` are for the forwarder."""
    ports = [word for host in lab.hosts for nic in host.nics for word in _add_port(host, nic)]
    identity = f"external_ids:system-id={lab.name}-{SWITCH}"
    return (
        *machine.own_open_vswitch(
            *(
                "--",
                "add-br",
                BRIDGE,
                "--",
                "set",
                "Bridge",
                BRIDGE,
                f"datapath_type={lab.datapath_type}",
                "fail_mode=standalone",
                f'other-config:hwaddr="{_MAC}"',
            ),
            *ports,
            bridge=BRIDGE,
        ),
        # Open vSwitch sets a new interface down to give it its address, and then as it was before: wait until it has.
        machine.once("settled", "ovs-vsctl", "--timeout=60", "set", "Open_vSwitch", ".", identity),
        machine.once("link", "ip", "link", "set", BRIDGE, "up"),
        machine.once("address", "ip", "address", "add", f"{lab.gateway}/24", "dev", BRIDGE),
        machine.service("forward", python, "-m", "poolnet.lab.forward", *forwards, fds=fds),
    )


def _add_port(host: LabHost, nic: Nic) -> Iterator[str]:
    """The words of ovs-vsctl; the port's OpenFlow number stays the same when the host reboots."""
    yield from ("--", "add-port", BRIDGE, switch_port(host.name, nic.name))
    yield from _set_interface(host, nic)


def _set_interface(host: LabHost, nic: Nic) -> Iterator[str]:
    port = switch_port(host.name, nic.name)
    yield from ("--", "set", "Interface", port, f"ofport_request={_ofport(host, nic)}", "lldp:enable=true")


async def bundle(lab: Lab, host: LabHost, nics: Sequence[Nic], *, fallback: bool) -> None:
    """Make one port, a LAG that speaks LACP, of the ports of these NICs, which are ports of their own.

    Without a partner it carries traffic on one member if `fallback`, else none.
    """
    ports = [switch_port(host.name, nic.name) for nic in nics]
    words = [word for port in ports for word in ("--", "del-port", BRIDGE, port)]
    words += ["--", "add-bond", BRIDGE, _lag(host, nics[0].name), *ports]
    words += ["bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast"]
    words += [f"other_config:lacp-fallback-ab={'true' if fallback else 'false'}"]
    words += [word for nic in nics for word in _set_interface(host, nic)]
    await machine.run_in(lab.switch_pid, "ovs-vsctl", *words)


async def separate(lab: Lab, host: LabHost, nics: Sequence[Nic]) -> None:
    """Undo `bundle`; these are all NICs of one LAG."""
    words = ["--", "del-port", BRIDGE, _lag(host, nics[0].bundle)]
    words += [word for nic in nics for word in _add_port(host, nic)]
    await machine.run_in(lab.switch_pid, "ovs-vsctl", *words)


def _lag(host: LabHost, first_nic: str) -> str:
    return f"{switch_port(host.name, first_nic)}-lag"


def _ofport(host: LabHost, nic: Nic) -> int:
    return host.number * _NICS_PER_HOST_MAX + nic.slot + 1


async def connect(lab: Lab, host: LabHost, nic: Nic) -> None:
    """Give the switch one more port."""
    await machine.run_in(lab.switch_pid, "ovs-vsctl", *_add_port(host, nic))


async def reopen(lab: Lab, host: LabHost) -> None:
    """Have the switch take the new ends of a host's cables: it holds on to those that are gone.

    What is set on the ports stays.
    """
    for kind in (
        "unplugged",
        '""',
    ):  # a type that does not exist closes a port, that of every device opens it
        words = [
            word
            for nic in host.nics
            for word in ("--", "set", "Interface", switch_port(host.name, nic.name), f"type={kind}")
        ]
        await machine.run_in(lab.switch_pid, "ovs-vsctl", *words)


async def disconnect(lab: Lab, host: LabHost, nic: Nic) -> None:
    """Take the port away."""
    port = switch_port(host.name, nic.name)
    await machine.run_in(lab.switch_pid, "ovs-vsctl", "--if-exists", "del-port", BRIDGE, port)


async def partition(lab: Lab, host: LabHost) -> None:
    """Drop what the host sends to or gets from the management network, on whichever of its NICs, tagged or not."""
    matches = ("ip,nw_src", "ip,nw_dst", "arp,arp_spa", "arp,arp_tpa")
    flows = [
        f"priority=100,in_port={_ofport(host, nic)},{match}={lab.network},actions=drop"
        for nic in host.nics
        for match in matches
    ]
    flows += [f"priority=100,{match}={host.address},actions=drop" for match in ("ip,nw_dst", "arp,arp_tpa")]
    text = "".join(f"cookie={host.number},{flow}\n" for flow in flows)
    words = (*machine.entering(lab.switch_pid), "ovs-ofctl", "add-flows", BRIDGE, "-")
    await machine.run(*words, text=text)


async def heal(lab: Lab, host: LabHost) -> None:
    """Undo `partition`."""
    await machine.run_in(lab.switch_pid, "ovs-ofctl", "del-flows", BRIDGE, f"cookie={host.number}/-1")


async def cut(lab: Lab, sender: LabHost, receiver: LabHost) -> None:
    """Drop what one host sends another over the management network; what comes back, and all others, arrive as before."""
    matches = (
        f"ip,nw_src={sender.address},nw_dst={receiver.address}",
        f"arp,arp_spa={sender.address},arp_tpa={receiver.address}",
    )
    text = "".join(
        f"cookie={_pair(sender, receiver)},priority=100,{match},actions=drop\n" for match in matches
    )
    words = (*machine.entering(lab.switch_pid), "ovs-ofctl", "add-flows", BRIDGE, "-")
    await machine.run(*words, text=text)


async def mend(lab: Lab, sender: LabHost, receiver: LabHost) -> None:
    """Undo `cut`."""
    cookie = f"cookie={_pair(sender, receiver)}/-1"
    await machine.run_in(lab.switch_pid, "ovs-ofctl", "del-flows", BRIDGE, cookie)


def _pair(sender: LabHost, receiver: LabHost) -> int:
    """The cookie of the flows between two hosts; that of a host's own flows is its number."""
    return sender.number << 32 | receiver.number << 16


def is_switch(name: str) -> bool:
    """Whether the name is that of the switch and not of a host."""
    return name == SWITCH
