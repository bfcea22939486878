"""What changes in the database when a PIF is brought up or down, and when a network is attached to a host?

The PIF, VLAN, bond, tunnel, VIF and VM rules end here (spec §7.7, §9). Only the final state is written; the host's side
follows from it through `derive`.
"""

from __future__ import annotations

from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import (
    IpConfigurationMode,
    Ipv6ConfigurationMode,
    PifIgmpStatus,
    PrimaryAddressType,
    VifOperations,
    VmPowerState,
)
from poolnet.model.types import Ref
from poolnet.rules import functions, tunnel_status
from poolnet.rules.addresses import is_ipv6_cidr
from poolnet.rules.context import CallContext
from poolnet.rules.features import the_pool
from poolnet.rules.kinds import Kind, below, is_bond_slave, is_vlan_on_sriov, kind_of
from poolnet.rules.mtu import lower_above, mtu_of_pif

LIVE = (VmPowerState.RUNNING, VmPowerState.PAUSED)


def bring_up(ctx: CallContext, ref: Ref[PIF]) -> None:
    """Attaches a PIF (spec §9.2); attached already, its MTU and flags are brought up to date.

    A bond takes its members' place; a member takes its bond's. A PIF of virtual functions that come with the next boot
    is not attached until then.

    Raises:
        NETWORK_SRIOV_ENABLE_FAILED: Its virtual functions cannot be switched on.
    """
    txn = ctx.txn
    pif = txn.get(PIF, ref)
    if kind_of(pif) is Kind.SRIOV_LOGICAL:
        functions.switch_on(txn, pif, ctx.facts_of(pif.host))
        return
    if is_vlan_on_sriov(txn, pif):
        lower = below(txn, pif)
        txn.update(PIF, ref, currently_attached=lower is not None and lower.currently_attached)
        return
    network = txn.get(Network, pif.network)
    if kind_of(pif) is Kind.BOND_MASTER:
        _take_members_place(ctx, pif, network)
    bond = txn.find(Bond, pif.bond_slave_of)
    if bond is not None and not pif.currently_attached and txn.exists(PIF, bond.master):
        txn.update(PIF, bond.master, currently_attached=False)
    if pif.VLAN == -1:
        snooping = PifIgmpStatus.ENABLED if the_pool(txn).igmp_snooping_enabled else PifIgmpStatus.DISABLED
        txn.update(PIF, ref, igmp_snooping_status=snooping)
    txn.update(PIF, ref, currently_attached=True, MTU=mtu_of_pif(txn, pif))
    lower_above(txn, pif)
    tunnel_status.refresh(txn, pif)
    if pif.management:
        refresh_address(ctx, pif.host)


def _take_members_place(ctx: CallContext, master: PIF, network: Network) -> None:
    txn = ctx.txn
    bond = txn.get(Bond, master.bond_master_of[0])
    for member in txn.where(PIF, bond_slave_of=bond.ref):
        txn.update(PIF, member.ref, currently_attached=False)
        if txn.exists(Network, member.network):
            txn.update(Network, member.network, MTU=network.MTU)
    primary = txn.find(PIF, bond.primary_slave)
    if bond.auto_update_mac and primary is not None:
        txn.update(PIF, master.ref, MAC=primary.MAC)


def bring_down(ctx: CallContext, ref: Ref[PIF]) -> None:
    """Detaches a PIF; its address fields stay (spec §9.3)."""
    pif = ctx.txn.get(PIF, ref)
    if kind_of(pif) is Kind.SRIOV_LOGICAL:
        functions.switch_off(ctx.txn, pif)
        return
    ctx.txn.update(PIF, ref, currently_attached=False)
    tunnel_status.refresh(ctx.txn, ctx.txn.get(PIF, ref))


def attach_network(ctx: CallContext, ref: Ref[Network], host: Ref[Host], *, force: bool) -> None:
    """Makes a network usable on a host (spec §7.7): its PIF there, if it has one, is brought up.

    Without a PIF there, the internal bridge follows from the VIFs that use it. With `force`, a PIF that is attached
    already is brought up again.

    Raises:
        HANDLE_INVALID: There is no such network.
        BRIDGE_NOT_AVAILABLE: Its bridge is somebody else's (unmanaged), and poolnet's switch does not have it.
        CANNOT_PLUG_BOND_SLAVE: The PIF is a member of a bond.
    """
    network = ctx.txn.get(Network, ref)
    if not network.managed:
        raise errors.bridge_not_available(network.bridge)
    for pif in ctx.txn.where(PIF, network=ref, host=host):
        if not pif.managed or (pif.currently_attached and not force):
            continue
        if is_bond_slave(ctx.txn, pif):
            raise errors.cannot_plug_bond_slave(pif.ref)
        bring_up(ctx, pif.ref)


def require_unused(ctx: CallContext, pif: PIF) -> None:
    """Lets a PIF go down if no VM on its host uses its network.

    Raises:
        VIF_IN_USE: A VIF of the network is being attached here, or attached to a VM that runs or is paused here.
    """
    for vif in ctx.txn.where(VIF, network=pif.network):
        vm = ctx.txn.find(VM, vif.VM)
        if vm is None:
            continue
        arriving = VifOperations.ATTACH in vif.current_operations.values()
        if arriving and pif.host in (vm.resident_on, vm.scheduled_to_be_resident_on):
            raise errors.vif_in_use(pif.network, vif.ref)
        if vif.currently_attached and vm.resident_on == pif.host and vm.power_state in LIVE:
            raise errors.vif_in_use(pif.network, vif.ref)


def primary_address(pif: PIF) -> str:
    """The address by which a PIF is known elsewhere (spec §8.16); "" if it has none."""
    if pif.primary_address_type is PrimaryAddressType.IPV4:
        return pif.IP
    usable = (text for text in pif.IPv6 if is_ipv6_cidr(text) and not text.lower().startswith("fe80:"))
    return next((text.partition("/")[0] for text in usable), "")


def gets_address_by_itself(pif: PIF) -> bool:
    """Does the PIF's primary address come from the network (DHCP, router advertisements)?"""
    if pif.primary_address_type is PrimaryAddressType.IPV6:
        return pif.ipv6_configuration_mode in (Ipv6ConfigurationMode.DHCP, Ipv6ConfigurationMode.AUTOCONF)
    return pif.ip_configuration_mode is IpConfigurationMode.DHCP


def refresh_address(ctx: CallContext, host: Ref[Host]) -> None:
    """Lets the host's address follow its management PIF's (spec §18.7).

    An address that is still awaited from the network leaves the old one until the host reports the new.
    """
    management = ctx.txn.first(PIF, host=host, management=True)
    address = primary_address(management) if management else ""
    if management and not address and gets_address_by_itself(management):
        return
    ctx.txn.update(Host, host, address=address)
