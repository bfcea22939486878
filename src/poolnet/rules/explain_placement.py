"""Why can a VM run on this host and not on that one, and which command changes that? For `vm-explain-placement`.

The refusals are those of `placement`, all of them instead of the first, with the command that removes each. What keeps
nobody from starting but may surprise, a PIF that is down or carries smaller frames, is a remark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from poolnet.db.txn import View
from poolnet.hostnet.mtu import pif_mtu
from poolnet.hostnet.state import TunnelKind
from poolnet.hostnet.tunnels import frame_bytes_max
from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import DomainType, TunnelProtocol, VifLockingMode
from poolnet.model.types import NULL, Ref
from poolnet.rules.allowed import domain_type
from poolnet.rules.context import CallContext
from poolnet.rules.drift import MTU_KEY
from poolnet.rules.functions import free_functions, logical_pif, the_sriov
from poolnet.rules.kinds import Kind, below, kind_of
from poolnet.rules.mtu import mtu_of_pif
from poolnet.rules.placement import ASSUMED_SHARED, Reach, Reaches


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a VM cannot run on a host, or what is to be known before it does.

    Attributes:
        because: In words.
        fix: The command that changes it; "" where none does.
        failure: What starting it there answers; None for a remark.
    """

    because: str
    fix: str = ""
    failure: errors.Failure | None = None


def explain_placement(ctx: CallContext, *, vms: tuple[Ref[VM], ...]) -> str:
    """For each of these VMs (none: all but templates), each host with what keeps the VM from running there. A JSON text.

    Raises:
        HANDLE_INVALID: There is no such VM.
    """
    view = ctx.txn
    rows = [view.get(VM, ref) for ref in vms] if vms else [vm for vm in view.all(VM) if _is_guest(vm)]
    hosts = tuple(view.all(Host))
    matrix, possible = _Matrix(ctx, hosts), [_possible(host) for host in hosts]
    answer = {
        "hosts": [{"host": host.uuid, "name-label": host.name_label} for host in hosts],
        "vms": [_row(vm, hosts, possible, matrix.cells(vm)) for vm in rows],
    }
    return msgspec.json.encode(answer).decode()


def _is_guest(vm: VM) -> bool:
    return not vm.is_a_template and not vm.is_control_domain and not vm.is_a_snapshot


def _possible(host: Host) -> msgspec.Raw:
    """A host that can run a VM, and nothing is to be said of it: written once, for all VMs."""
    cell = {"host": host.uuid, "possible": True, "obstacles": (), "remarks": ()}
    return msgspec.Raw(msgspec.json.encode(cell))


def _row(
    vm: VM, hosts: Sequence[Host], possible: Sequence[msgspec.Raw], cells: Sequence[Sequence[Reason]]
) -> dict[str, Any]:
    listed: list[dict[str, Any] | msgspec.Raw] = []
    for host, plain, reasons in zip(hosts, possible, cells, strict=True):
        if not reasons:
            listed.append(plain)
            continue
        refusals = [reason for reason in reasons if reason.failure is not None]
        listed.append(
            {
                "host": host.uuid,
                "possible": not refusals,
                "obstacles": [_obstacle(reason, reason.failure) for reason in refusals],
                "remarks": [
                    {"because": reason.because, "fix": reason.fix}
                    for reason in reasons
                    if reason.failure is None
                ],
            }
        )
    return {"vm": vm.uuid, "name-label": vm.name_label, "hosts": listed}


def _obstacle(reason: Reason, failure: errors.Failure | None) -> dict[str, Any]:
    code = [failure.code, *failure.params] if failure is not None else []
    return {"error": code, "because": reason.because, "fix": reason.fix}


@dataclass(frozen=True, slots=True)
class _Column:
    """A network on each of the hosts: what is to be said of it there, and on which hosts there is nothing to be said."""

    reach: Reach
    remarks: Sequence[Sequence[Reason]]
    plain: frozenset[int]


class _Matrix:
    """What is asked once for all VMs: hosts, and networks on hosts."""

    def __init__(self, ctx: CallContext, hosts: Sequence[Host]) -> None:
        self._view: View = ctx.txn
        self._hosts = hosts
        self._reaches = Reaches.shared(ctx)
        self._of_hosts = [_host_reasons(ctx, host) for host in hosts]
        self._well = frozenset(index for index, reasons in enumerate(self._of_hosts) if not reasons)
        self._columns: dict[Ref[Network], _Column] = {}

    def cells(self, vm: VM) -> list[list[Reason]]:
        """The reasons on each host."""
        vifs = self._view.where(VIF, VM=vm.ref)
        everywhere = list(self._of_vm(vm, vifs))
        columns = [(vif, self._column(vif.network)) for vif in vifs]
        on_functions = any(self._reaches.is_sriov(vif.network) for vif in vifs)
        plain = self._well.intersection(*(column.plain for _, column in columns))
        if everywhere or on_functions:
            plain = frozenset()
        nothing: list[Reason] = []
        cells = [nothing] * len(self._hosts)
        for index, host in enumerate(self._hosts):
            if index in plain:
                continue
            reasons = [*self._of_hosts[index], *everywhere]
            for vif, column in columns:
                if not column.reach.has(host.ref):
                    reasons.append(_missing(self._view, column.reach, vm, vif, host))
                elif column.reach.is_bonded(self._view, host.ref):
                    reasons.append(_bonded(self._view, column.reach, vif, host))
                else:
                    reasons += column.remarks[index]
            if on_functions:
                reasons += _capacity(self._view, vifs, host)
            cells[index] = list(dict.fromkeys(reasons))
        return cells

    def _column(self, ref: Ref[Network]) -> _Column:
        known = self._columns.get(ref)
        if known is None:
            known = self._columns[ref] = self._made_column(self._reaches.of(ref))
        return known

    def _made_column(self, reach: Reach) -> _Column:
        network = reach.network
        remarks: list[Sequence[Reason]] = []
        plain = []
        for index, host in enumerate(self._hosts):
            pif = reach.pifs.get(host.ref)
            is_plain = pif is None or (pif.currently_attached and max(network.MTU, 1) <= pif.MTU)
            remarks.append(() if is_plain else tuple(_remarks(self._view, network, pif)))
            if not remarks[-1] and reach.usable(self._view, host.ref):
                plain.append(index)
        return _Column(reach, remarks, frozenset(plain))

    def _of_vm(self, vm: VM, vifs: Sequence[VIF]) -> Iterator[Reason]:
        """What keeps a VM from every host."""
        on_functions = [vif for vif in vifs if self._reaches.is_sriov(vif.network)]
        if on_functions and domain_type(vm) is not DomainType.HVM:
            text = f"{vm.name_label} has a VIF on an SR-IOV network and is not fully virtualized"
            fix = f"xe vm-param-set uuid={vm.uuid} domain-type=hvm"
            yield Reason(text, fix, errors.vm_hvm_required(vm.ref))
        for vif in on_functions:
            if vif.locking_mode is VifLockingMode.LOCKED:
                text = f"VIF {vif.device} is locked, and no NIC holds a virtual function to its IP addresses"
                fix = f"xe vif-param-set uuid={vif.uuid} locking-mode=unlocked"
                said = errors.operation_not_allowed("A VIF on an SR-IOV network cannot be locked")
                yield Reason(text, fix, said)
        for vif in vifs:
            network = self._reaches.of(vif.network).network
            if not network.managed:
                text = f"network {network.name_label} is somebody else's bridge {network.bridge}"
                fix = f"xe vif-move uuid={vif.uuid} network-uuid=NETWORK"
                yield Reason(text, fix, errors.bridge_not_available(network.bridge))


# --- hosts -----------------------------------------------------------------------------------------------------


def _host_reasons(ctx: CallContext, host: Host) -> list[Reason]:
    if not ctx.is_live(host.ref):
        return [Reason(f"{host.name_label} is down", "", errors.host_not_live())]
    if not host.enabled:
        fix = f"xe host-enable uuid={host.uuid}"
        return [Reason(f"{host.name_label} is disabled", fix, errors.host_disabled(host.ref))]
    return []


# --- networks that a host lacks --------------------------------------------------------------------------------


def _missing(view: View, reach: Reach, vm: VM, vif: VIF, host: Host) -> Reason:
    network = reach.network
    failure = errors.vm_requires_network(vm.ref, network.ref)
    if reach.holders is not None:
        names = ", ".join(sorted(view.get(Host, holder).name_label for holder in reach.holders))
        text = f"internal network {network.name_label} is in use on {names}, and leads nowhere else"
        fix = f"xe network-param-set uuid={network.uuid} other-config:{ASSUMED_SHARED}=true"
        return Reason(text, fix, failure)
    theirs = next(iter(reach.pifs.values()))
    text, fix = _how_to_have(view, network, theirs, host)
    return Reason(f"{host.name_label} does not have network {network.name_label}: {text}", fix, failure)


def _how_to_have(view: View, network: Network, theirs: PIF, host: Host) -> tuple[str, str]:
    """What a host lacks, compared with a host that has the network, and the command that gives it that."""
    match kind_of(theirs):
        case Kind.VLAN:
            return _lacks_vlan(view, network, theirs, host)
        case Kind.BOND_MASTER:
            return _lacks_bond(view, network, theirs, host)
        case Kind.TUNNEL_ACCESS:
            tunnel = view.get(Tunnel, theirs.tunnel_access_PIF_of[0])
            transport = _counterpart(view, view.find(PIF, tunnel.transport_PIF), host)
            if transport is None:
                return "it has no tunnel there, and nothing to put one on", ""
            protocol = " protocol=vxlan" if tunnel.protocol is TunnelProtocol.VXLAN else ""
            words = f"xe tunnel-create network-uuid={network.uuid} pif-uuid={transport.uuid}{protocol}"
            return "it has no tunnel there", words
        case Kind.SRIOV_LOGICAL:
            physical = _counterpart(view, below(view, theirs), host)
            if physical is None or "sriov" not in physical.capabilities:
                return "it has no NIC with virtual functions there", f"xe pif-scan host-uuid={host.uuid}"
            words = f"xe network-sriov-create network-uuid={network.uuid} pif-uuid={physical.uuid}"
            return f"SR-IOV is not enabled on {physical.device}", words
    there = _nic(view, theirs.device, host)
    if there is None:
        return f"it has no NIC {theirs.device}", f"xe pif-scan host-uuid={host.uuid}"
    other = view.find(Network, there.network)
    named = other.name_label if other is not None else "none"
    words = f"xe pif-forget uuid={there.uuid}"
    return f"its {there.device} is on network {named}", words


def _lacks_vlan(view: View, network: Network, theirs: PIF, host: Host) -> tuple[str, str]:
    vlan = view.find(VLAN, theirs.VLAN_master_of)
    tagged = view.find(PIF, vlan.tagged_PIF) if vlan is not None else None
    lower = _counterpart(view, tagged, host)
    if lower is None:
        under = view.find(Network, tagged.network) if tagged is not None else None
        text, fix = f"it has no {theirs.device}", f"xe pif-scan host-uuid={host.uuid}"
        if tagged is not None and under is not None:
            text, fix = _how_to_have(view, under, tagged, host)
        return f"{text} for VLAN {theirs.VLAN}", fix
    bond = view.find(Bond, lower.bond_slave_of)
    lower = (view.find(PIF, bond.master) if bond is not None else None) or lower
    words = f"xe vlan-create network-uuid={network.uuid} pif-uuid={lower.uuid} vlan={theirs.VLAN}"
    return f"it has no VLAN {theirs.VLAN} on {lower.device}", words


def _lacks_bond(view: View, network: Network, theirs: PIF, host: Host) -> tuple[str, str]:
    bond = view.get(Bond, theirs.bond_master_of[0])
    members = sorted(
        (view.get(PIF, ref) for ref in bond.slaves if view.exists(PIF, ref)), key=lambda pif: pif.device
    )
    own = [nic for member in members if (nic := _nic(view, member.device, host)) is not None]
    wanted = "+".join(member.device for member in members)
    if len(own) < len(members):
        return f"it has not all NICs of the bond {wanted}", f"xe pif-scan host-uuid={host.uuid}"
    for nic in own:
        other = view.find(Bond, nic.bond_slave_of)
        if other is not None:
            return f"its {nic.device} is in another bond", f"xe bond-destroy uuid={other.uuid}"
    uuids = ",".join(nic.uuid for nic in own)
    words = f"xe bond-create network-uuid={network.uuid} pif-uuids={uuids} mode={bond.mode.value}"
    return f"it has no bond {wanted}", words


def _counterpart(view: View, pif: PIF | None, host: Host) -> PIF | None:
    """A host's PIF on the network of another host's."""
    if pif is None:
        return None
    return view.first(PIF, network=pif.network, host=host.ref)


def _nic(view: View, device: str, host: Host) -> PIF | None:
    return next(
        (pif for pif in view.where(PIF, host=host.ref) if pif.physical and pif.device == device), None
    )


def _bonded(view: View, reach: Reach, vif: VIF, host: Host) -> Reason:
    member = reach.pifs[host.ref]
    bond = view.get(Bond, member.bond_slave_of)
    master = view.find(PIF, bond.master)
    network = view.find(Network, master.network if master is not None else NULL)
    text = f"{member.device} of {host.name_label}, which is network {reach.network.name_label}, is a bond's member"
    if network is None:
        fix = f"xe bond-destroy uuid={bond.uuid}"
    else:
        text += f"; the bond is network {network.name_label}"
        fix = f"xe vif-move uuid={vif.uuid} network-uuid={network.uuid}"
    return Reason(text, fix, errors.host_cannot_attach_network(host.ref, reach.network.ref))


# --- virtual functions -----------------------------------------------------------------------------------------


def _capacity(view: View, vifs: Sequence[VIF], host: Host) -> Iterator[Reason]:
    """Counted per NIC: VLANs on one NIC share its functions. The first network of a NIC that has too few names it."""
    needed: dict[Ref[PIF], list[VIF]] = {}
    logicals: dict[Ref[PIF], PIF] = {}
    for vif in vifs:
        logical = logical_pif(view, vif.network, host.ref)
        if logical is not None and vif.reserved_pci == NULL:
            logicals[logical.ref] = logical
            needed.setdefault(logical.ref, []).append(vif)
    for ref, wanting in needed.items():
        logical = logicals[ref]
        sriov = the_sriov(view, logical)
        free = len(free_functions(view, sriov)) if logical.currently_attached else 0
        if free >= len(wanting):
            continue
        failure = errors.network_sriov_insufficient_capacity(wanting[free].network)
        text, fix = _why_no_function(view, host, logical, sriov, free, len(wanting))
        yield Reason(text, fix, failure)


def _why_no_function(
    view: View, host: Host, logical: PIF, sriov: NetworkSriov, free: int, wanted: int
) -> tuple[str, str]:
    device = f"{logical.device} of {host.name_label}"
    if sriov.requires_reboot:
        return f"{device} gets its virtual functions when the host boots", f"xe host-reboot uuid={host.uuid}"
    if not logical.currently_attached:
        return f"SR-IOV is not on at {device}", f"xe pif-plug uuid={logical.uuid}"
    users = [
        vm
        for vm in view.where(VM, resident_on=host.ref)
        if vm.attached_PCIs
        and any(
            vif.reserved_pci in vm.attached_PCIs
            and (used := logical_pif(view, vif.network, host.ref)) is not None
            and used.ref == logical.ref
            for vif in view.where(VIF, VM=vm.ref)
        )
    ]
    text = f"{device} has {free} free virtual functions, {wanted} are needed"
    if not users:
        return text, ""
    names = ", ".join(vm.name_label for vm in users)
    return f"{text}; in use by {names}", f"xe vm-shutdown uuid={users[-1].uuid}"


# --- what does not keep a VM from a host -----------------------------------------------------------------------


def _remarks(view: View, network: Network, pif: PIF | None) -> Iterator[Reason]:
    if pif is None:
        return
    if not pif.currently_attached and kind_of(pif) is not Kind.SRIOV_LOGICAL:
        text = f"{pif.device} is unplugged on network {network.name_label}; it is plugged when the VM starts"
        yield Reason(text, f"xe pif-plug uuid={pif.uuid}")
    carried = pif.MTU if pif.currently_attached and pif.MTU > 0 else mtu_of_pif(view, pif)
    if carried < network.MTU:
        text = f"network {network.name_label} asks for an MTU of {network.MTU}, and {pif.device} carries {carried}"
        yield Reason(text, _next_for_mtu(view, pif, network.MTU))


def _next_for_mtu(view: View, pif: PIF, needed: int) -> str:
    """The next command on the way to an MTU: what the lowest layer is to have, then each plugged again, upwards."""
    lower = below(view, pif)
    if lower is not None:
        room = _with_headers(view, pif, lower, needed)
        if mtu_of_pif(view, lower) < room or (lower.currently_attached and 0 < lower.MTU < room):
            return _next_for_mtu(view, lower, room)
    network = view.find(Network, pif.network)
    if pif_mtu(pif, network) >= needed:
        return f"xe pif-plug uuid={pif.uuid}"
    if MTU_KEY in pif.other_config or network is None:
        return f"xe pif-param-set uuid={pif.uuid} other-config:{MTU_KEY}={needed}"
    return f"xe network-param-set uuid={network.uuid} MTU={needed}"


def _with_headers(view: View, pif: PIF, lower: PIF, needed: int) -> int:
    """What a PIF's frames need below: as they are, or in a tunnel."""
    if not pif.tunnel_access_PIF_of:
        return needed
    tunnel = view.get(Tunnel, pif.tunnel_access_PIF_of[0])
    return 2 * needed - frame_bytes_max(TunnelKind(tunnel.protocol.value), lower, needed)
