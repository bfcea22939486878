"""How does a plan, a guest action or a state read to a person, and what is its fingerprint?

`--dry-run`, logs and golden tests print the text, so it is stable; staging and confirming compare the hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from hashlib import sha256

import msgspec

from poolnet.hostnet.impact import Named, impact, named_by_uuid, overlaps
from poolnet.hostnet.protocol import (
    CreateGuest,
    DepartGuest,
    DestroyGuest,
    GuestAction,
    GuestNic,
    GuestSpec,
    PauseGuest,
    PlugNic,
    RaiseNic,
    ReceiveGuest,
    ResumeGuest,
    RunGuest,
    ShutDownGuest,
    SuspendGuest,
    UnplugNic,
)
from poolnet.hostnet.state import (
    EVERYWHERE,
    BondOptions,
    Bridge,
    FunctionsMode,
    GuestPort,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    Ipv6Mode,
    LockMode,
    PortLock,
    Uplink,
    VirtualFunction,
)
from poolnet.hostnet.steps import (
    AddPort,
    CloseHttp,
    CreateBridge,
    DestroyBridge,
    DisableFunctions,
    EnableFunctions,
    MovePort,
    OpenNbdPort,
    Plan,
    RemovePort,
    ReplaceBridge,
    ReplaceLock,
    ReplacePort,
    ReplaceUplink,
    SetAddresses,
    SetFunction,
    SetLink,
    SetManagement,
    Step,
)
from poolnet.hostnet.storage import (
    AttachStorage,
    CreateStorage,
    DeleteStorage,
    DetachStorage,
    MeasureStorage,
    NfsExport,
    Source,
    StorageAction,
)


def show_plan(plan: Plan, desired: HostNetwork | None = None, named: Named = named_by_uuid) -> str:
    """One line per step, details indented by two spaces, then the disturbance; or "nothing to do".

    With the state that the plan leads to, whom each step interrupts is one of its details.
    """
    if not plan.steps:
        return "nothing to do\n"
    lines: list[str] = []
    for step in plan.steps:
        lines += show_step(step)
        hurt = impact(step, plan, desired, named) if desired is not None else ""
        lines += _indented((hurt,)) if hurt else ()
        lines += _indented(overlaps(step, desired)) if desired is not None else ()
    return "\n".join([*lines, f"disturbs: {plan.disturbance.name.lower()}"]) + "\n"


def show_step(step: Step) -> tuple[str, ...]:
    """The step's line, and the indented lines of its details."""
    match step:
        case CreateBridge(bridge=bridge):
            return (f"create bridge {_bridge(bridge)}", *_indented(_bridge_details(bridge)))
        case DestroyBridge(bridge=bridge):
            return (f"destroy bridge {_bridge(bridge).removesuffix(', internal')}",)
        case ReplaceUplink(name=name, old=before, new=after):
            return (f"replace the uplink of {name}: {_uplink(before)} -> {_uplink(after)}",)
        case SetAddresses(name=name, old=previous, new=wanted):
            return (
                f"set the addresses of {name}",
                *_indented(_changes(_ip_details(previous), _ip_details(wanted))),
            )
        case ReplaceBridge(old=was, new=becomes):
            changes = _changes(_bridge_details(was), _bridge_details(becomes))
            return (f"change bridge {becomes.name}", *_indented(changes))
        case SetLink(name=name, old=values, new=new_values):
            changes = _changes(_link_details(values), _link_details(new_values))
            return (f"change how {name} works", *_indented(changes))
        case EnableFunctions() | DisableFunctions() | SetFunction():
            return _show_function_step(step)
        case _:
            return _show_port_step(step)


def _show_port_step(
    step: AddPort
    | RemovePort
    | MovePort
    | ReplaceLock
    | ReplacePort
    | SetManagement
    | OpenNbdPort
    | CloseHttp,
) -> tuple[str, ...]:
    match step:
        case AddPort(port=port):
            line = f"add port {port.device} to {port.bridge}: {_lock(port.lock)}"
            return (line, *_indented(_port_details(port)))
        case RemovePort(port=port):
            return (f"remove port {port.device} from {port.bridge}",)
        case MovePort(old=old, new=new):
            line = f"move port {new.device} from {old.bridge} to {new.bridge}: {_lock(new.lock)}"
            return (line, *_indented(_changes(_port_details(old), _port_details(new))))
        case ReplaceLock(device=device, old=before, new=after):
            return (f"replace the lock of {device}: {_lock(before)} -> {_lock(after)}",)
        case ReplacePort(old=old, new=new):
            return (f"change port {new.device}", *_indented(_changes(_port_details(old), _port_details(new))))
        case SetManagement(old=was, new=becomes):
            return (f"move management: {was or 'off'} -> {becomes or 'off'}",)
        case OpenNbdPort(old=were, new=are):
            return (f"open the NBD port on bridges: {_names(were)} -> {_names(are)}",)
        case CloseHttp(new=closed):
            return (f"{'close' if closed else 'open'} port 80 to other machines",)


def _show_function_step(step: EnableFunctions | DisableFunctions | SetFunction) -> tuple[str, ...]:
    match step:
        case EnableFunctions(device=device, mode=mode):
            return (f"give {device} its virtual functions {_by(mode)}",)
        case DisableFunctions(device=device, mode=FunctionsMode.MANUAL):
            return (f"leave the virtual functions of {device} to the administrator",)
        case DisableFunctions(device=device, mode=mode):
            return (f"take the virtual functions of {device} away {_by(mode)}",)
        case SetFunction(device=device, old=old, new=None):
            address = old.address if old is not None else ""
            return (f"reset the virtual function {address} of {device}",)
        case SetFunction(device=device, old=old, new=VirtualFunction() as new):
            if old is None:
                line = f"prepare the virtual function {new.address} of {device}"
                return (line, *_indented(_function_details(new)))
            changes = _changes(_function_details(old), _function_details(new))
            return (f"change the virtual function {new.address} of {device}", *_indented(changes))
    raise AssertionError(step)


def _by(mode: FunctionsMode) -> str:
    words = {
        FunctionsMode.SYSFS: "at once",
        FunctionsMode.MODPROBE: "by an option of its driver, which may need a reboot",
        FunctionsMode.MANUAL: "as the administrator made them",
    }
    return words[mode]


def _function_details(function: VirtualFunction) -> Iterator[str]:
    yield f"MAC {function.mac}"
    if function.vlan_tag:
        yield f"VLAN {function.vlan_tag}"
    if function.rate_mbits_per_s:
        yield f"rate {function.rate_mbits_per_s} Mbit/s"
    if not function.connected:
        yield "no link"
    if not function.spoof_checked:
        yield "frames from any MAC"
    if function.vif_uuid:
        yield f"VIF {function.vif_uuid}"


def show_guest_action(action: GuestAction) -> str:
    """The action as one line."""
    match action:
        case CreateGuest(guest=guest):
            return f"create guest {_guest(guest)}"
        case ReceiveGuest(guest=guest):
            return f"receive guest {_guest(guest)}"
        case DepartGuest(vm_uuid=vm):
            return f"freeze guest {vm}, which goes to another host"
        case ResumeGuest(guest=guest):
            return f"resume guest {_guest(guest)}"
        case RunGuest(vm_uuid=vm):
            return f"run guest {vm}"
        case PauseGuest(vm_uuid=vm):
            return f"pause guest {vm}"
        case ShutDownGuest(vm_uuid=vm, timeout_s=timeout):
            return f"shut guest {vm} down within {timeout:g} s"
        case DestroyGuest(vm_uuid=vm):
            return f"destroy guest {vm}"
        case SuspendGuest(vm_uuid=vm):
            return f"suspend guest {vm}"
        case PlugNic() | UnplugNic() | RaiseNic():
            return _change_of_nic(action)


def _change_of_nic(action: PlugNic | UnplugNic | RaiseNic) -> str:
    match action:
        case PlugNic(vm_uuid=vm, nic=nic):
            return f"plug NIC {nic.device} ({nic.mac}, MTU {nic.mtu_bytes}) into guest {vm}"
        case UnplugNic(vm_uuid=vm, device=device):
            return f"unplug NIC {device} from guest {vm}"
        case RaiseNic(vm_uuid=vm, device=device):
            return f"raise the link of NIC {device} of guest {vm}"


def show_storage_action(action: StorageAction) -> str:
    """The action as one line."""
    match action:
        case AttachStorage(sr=sr, source=source):
            return f"mount {_source(source)} for SR {sr}"
        case DetachStorage(sr=sr):
            return f"unmount SR {sr}"
        case CreateStorage(sr=sr, source=source):
            return f"make the directory of SR {sr} in {_source(source)}"
        case DeleteStorage(sr=sr, source=source):
            return f"remove the directory of SR {sr} from {_source(source)}"
        case MeasureStorage(sr=sr):
            return f"measure SR {sr}"


def show_network(network: HostNetwork) -> str:
    """The whole state: a line per bridge and port, details indented by two spaces."""
    lines: list[str] = []
    for bridge in network.bridges:
        lines += [f"bridge {_bridge(bridge)}", *_indented(_bridge_details(bridge))]
    for port in network.ports:
        lines += [f"port {port.device} on {port.bridge}: {_lock(port.lock)}", *_indented(_port_details(port))]
    for link in network.links:
        lines += [f"link {link.name}", *_indented(_link_details(link.values))]
    for nic in network.sriov:
        lines.append(f"virtual functions of {nic.device} ({nic.mode})")
        for function in nic.functions:
            lines += _indented((f"{function.address}", *_indented(_function_details(function))))
    lines.append(f"management: {network.management_bridge or 'off'}")
    if network.nbd_bridges:
        lines.append(f"NBD port open on: {_names(network.nbd_bridges)}")
    if network.http_closed:
        lines.append("port 80 closed to other machines")
    lines += [f"foreign: {name}" for name in network.foreign]
    return "\n".join(lines) + "\n"


def plan_hash(plan: Plan) -> str:
    """SHA-256 of the plan's canonical JSON, in hex."""
    return sha256(msgspec.json.encode(plan, order="deterministic")).hexdigest()


def network_hash(network: HostNetwork) -> str:
    """SHA-256 of the state's canonical JSON, in hex; foreign objects do not count."""
    return sha256(msgspec.json.encode(replace(network, foreign=()), order="deterministic")).hexdigest()


def _source(source: Source) -> str:
    return f"{source.server}:{source.path}" if isinstance(source, NfsExport) else source.path


def _names(bridges: tuple[str, ...]) -> str:
    return "all" if EVERYWHERE in bridges else ", ".join(bridges) or "none"


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _changes(before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    """What goes and what comes between two lists of details, each under its sign."""
    old, new = tuple(before), tuple(after)
    yield from (f"- {line}" for line in old if line not in new)
    yield from (f"+ {line}" for line in new if line not in old)


def _bridge(bridge: Bridge) -> str:
    if bridge.parent:
        return f"{bridge.name} on {bridge.parent}, VLAN {bridge.vlan_tag}"
    if bridge.uplink is None:
        return f"{bridge.name}, internal"
    return f"{bridge.name} on {_uplink(bridge.uplink)}"


def _uplink(uplink: Uplink | None) -> str:
    if uplink is None:
        return "none"
    if uplink.tunnel is not None:
        ends = " + ".join(uplink.tunnel.remotes) or "nowhere yet"
        return f"{uplink.device} ({uplink.tunnel.kind} {uplink.tunnel.key} to {ends})"
    if uplink.bond is None:
        return uplink.device
    return f"{uplink.device} ({' + '.join(uplink.members)}, {_bond(uplink.bond)})"


def _bond(bond: BondOptions) -> str:
    """The mode, and every option that is not the usual one."""
    usual = BondOptions(mode=bond.mode)
    words = [str(bond.mode)]
    for option in fields(bond):
        value = getattr(bond, option.name)
        if option.name == "properties":
            words += [f"{key}={text}" for key, text in value]
        elif value != getattr(usual, option.name):
            words.append(f"{option.name}={value}")
    return ", ".join(words)


def _bridge_details(bridge: Bridge) -> Iterator[str]:
    if bridge.mac:
        yield f"MAC {bridge.mac}"
    yield f"MTU {bridge.mtu_bytes}"
    for uuid in bridge.network_uuids:
        yield f"network {uuid}"
    if bridge.igmp_snooping:
        yield "IGMP snooping"
    if bridge.fail_mode_secure:
        yield "fail mode secure"
    yield from _ip_details(bridge.ip)


def _ip_details(config: IpConfig) -> Iterator[str]:
    if config.ipv4_mode is not Ipv4Mode.NONE:
        yield f"IPv4 {config.ipv4_mode} {config.ipv4_address}".rstrip()
    if config.ipv4_gateway:
        yield f"IPv4 gateway {config.ipv4_gateway}"
    if config.ipv6_mode is not Ipv6Mode.NONE:
        yield " ".join([f"IPv6 {config.ipv6_mode}", *config.ipv6_addresses])
    if config.ipv6_gateway:
        yield f"IPv6 gateway {config.ipv6_gateway}"
    if config.dns_servers:
        yield "DNS " + " ".join(config.dns_servers)
    if config.dns_search:
        yield "DNS search " + " ".join(config.dns_search)
    for address in config.strange_addresses:
        yield f"address {address}, which somebody has put there"
    for route in config.routes:
        yield f"route {route}"
    if config.dhcp_routes:
        yield "routes by DHCP"
    if config.dhcp_dns:
        yield "DNS by DHCP"


def _link_details(values: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (f"{key} {value}" for key, value in values)


def _lock(lock: PortLock) -> str:
    words: list[str] = []
    if lock.mode is LockMode.LOCKED:
        words.append(", ".join((*lock.ipv4_allowed, *lock.ipv6_allowed)) or "no addresses")
    if lock.trunks:
        words.append("VLANs " + ", ".join(str(tag) for tag in lock.trunks))
    if lock.shadow and lock.mode is LockMode.LOCKED:
        words.append("only counting")
    return f"{lock.mode} ({'; '.join(words)})" if words else str(lock.mode)


def _port_details(port: GuestPort) -> Iterator[str]:
    yield f"MAC {port.lock.mac}"
    yield f"MTU {port.mtu_bytes}"
    if port.rate_kbytes_per_s:
        yield f"rate {_rate(port.rate_kbytes_per_s)}"
    for noun, uuid in (("VIF", port.vif_uuid), ("VM", port.vm_uuid), ("network", port.network_uuid)):
        if uuid:
            yield f"{noun} {uuid}"


def _means(nic: GuestNic) -> str:
    return f"{nic.mac} (virtual function {nic.function})" if nic.function else nic.mac


def _rate(kbytes_per_s: int) -> str:
    """A rate as it is set, in kilobytes of 1024 bytes, and in the bits that networks are sold in."""
    bits, unit = kbytes_per_s * 8192 / 1000, "kbit/s"
    for larger in ("Mbit/s", "Gbit/s"):
        if bits >= 1000:
            bits, unit = bits / 1000, larger
    return f"{kbytes_per_s} kB/s ({bits:.4g} {unit})"


def _guest(guest: GuestSpec) -> str:
    nics = ", ".join(f"NIC {nic.device} {_means(nic)}" for nic in guest.nics) or "no NICs"
    return f"{guest.vm_uuid} ({guest.name!r}, domid {guest.domid}, {nics})"
