"""What of a change that somebody made on a host by hand can the database take over? And what does the pool want of such?

The pool's `other_config:network-drift` is `repair` (the default), `adopt` or `leave`. What is adopted becomes what is
intended, on that host alone; what the database has no word for is put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Interface

from poolnet.hostnet.derive import derive
from poolnet.hostnet.state import Bridge, HostNetwork, Ipv4Mode
from poolnet.model import errors
from poolnet.model.alerts import HOST_NETWORK_DRIFT, NETWORK_ALERT_PRIORITY
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import Cls
from poolnet.model.types import Ref
from poolnet.rules.addresses import is_ipv4, is_ipv6
from poolnet.rules.attach import bring_up
from poolnet.rules.context import CallContext
from poolnet.rules.message import raise_alert
from poolnet.rules.pif_plug import unplug
from poolnet.rules.vlan import require_tag

MTU_KEY = "mtu"


def adopt(ctx: CallContext, *, host: Ref[Host], actual: HostNetwork) -> tuple[str, ...]:
    """Takes over what is on a host: bridges that are gone, tags of VLANs, MTUs, static addresses, gateways and name servers.

    Called by the pool, not a client. Of what carries the management only name servers are. Returns what was taken over, in words,
    and says it in an alert.

    Raises:
        HOST_OFFLINE: The host is not heard.
    """
    ctx.require_live(host)
    intended = derive(ctx.txn, host)
    adopted: list[str] = []
    for pif in ctx.txn.where(PIF, host=host):
        network = ctx.txn.find(Network, pif.network)
        wanted = intended.bridge(network.bridge) if network is not None else None
        if wanted is None or not pif.currently_attached:
            continue
        nested = ctx.on(ctx.txn.nested())
        there = actual.bridge(wanted.name)
        try:
            told = [] if pif.management else _adopt_bridge(nested, pif, wanted, there)
            told += _adopt_name_servers(nested, pif, wanted, there)
        except errors.Failure:  # somebody needs it as it was: it is left
            continue
        nested.txn.merge()
        adopted += told
    if adopted:
        row = ctx.txn.get(Host, host)
        raise_alert(
            ctx.txn,
            ctx.new_uuid,
            ctx.now,
            name=HOST_NETWORK_DRIFT,
            priority=NETWORK_ALERT_PRIORITY,
            cls=Cls.HOST,
            obj_uuid=row.uuid,
            body="\n".join(
                (f"What was changed on {row.name_label} by somebody else was taken over:", *adopted)
            ),
        )
    return tuple(adopted)


def _adopt_bridge(ctx: CallContext, pif: PIF, wanted: Bridge, there: Bridge | None) -> list[str]:
    txn = ctx.txn
    if there is None:
        unplug(ctx, self=pif.ref)
        return [f"{pif.device} is unplugged: bridge {wanted.name} is gone"]
    told: list[str] = []
    vlan = txn.find(VLAN, pif.VLAN_master_of)
    if vlan is not None and there.vlan_tag != wanted.vlan_tag:
        require_tag(there.vlan_tag)
        if txn.where(VLAN, tagged_PIF=vlan.tagged_PIF, tag=there.vlan_tag):
            raise errors.pif_vlan_exists(pif.device)
        txn.update(VLAN, vlan.ref, tag=there.vlan_tag)
        txn.update(PIF, pif.ref, VLAN=there.vlan_tag)
        told.append(f"the tag of {wanted.name} is {there.vlan_tag}")
    if there.mtu_bytes != wanted.mtu_bytes:
        mtu = str(there.mtu_bytes)
        txn.update(PIF, pif.ref, other_config={**pif.other_config, MTU_KEY: mtu})
        bring_up(ctx, pif.ref)
        told.append(f"the MTU of {wanted.name} is {mtu}")
    if wanted.ip.ipv4_mode is Ipv4Mode.STATIC and there.ip.ipv4_address:
        told += _adopt_address(ctx, pif, wanted, there)
    return told


def _adopt_address(ctx: CallContext, pif: PIF, wanted: Bridge, there: Bridge) -> list[str]:
    told: list[str] = []
    if there.ip.ipv4_address != wanted.ip.ipv4_address:
        address = IPv4Interface(there.ip.ipv4_address)
        ctx.txn.update(PIF, pif.ref, IP=str(address.ip), netmask=str(address.netmask))
        told.append(f"the address of {wanted.name} is {address}")
    if there.ip.ipv4_gateway != wanted.ip.ipv4_gateway:
        ctx.txn.update(PIF, pif.ref, gateway=there.ip.ipv4_gateway)
        told.append(f"the gateway of {wanted.name} is {there.ip.ipv4_gateway or 'none'}")
    return told


def _adopt_name_servers(ctx: CallContext, pif: PIF, wanted: Bridge, there: Bridge | None) -> list[str]:
    """Those of a PIF with a static address; only addresses, as the database knows nothing else."""
    if there is None or there.ip.dns_servers == wanted.ip.dns_servers or wanted.ip.dhcp_dns:
        return []
    servers = there.ip.dns_servers
    if not all(is_ipv4(server) or is_ipv6(server) for server in servers):
        return []
    ctx.txn.update(PIF, pif.ref, DNS=",".join(servers))
    return [f"the name servers of {wanted.name} are {', '.join(servers) or 'none'}"]


# --- the pool's other_config: its hosts are to know the policy at once -------------------------------------------


def set_other_config(ctx: CallContext, *, self: Ref[Pool], value: Mapping[str, str]) -> None:
    """Sets the pool's further settings; what they say of changes by hand, its hosts know when the call ends."""
    ctx.txn.update(Pool, self, other_config=dict(value))


def add_to_other_config(ctx: CallContext, *, self: Ref[Pool], key: str, value: str) -> None:
    """Adds one of the pool's further settings.

    Raises:
        MAP_DUPLICATE_KEY: The key is there.
    """
    known = ctx.txn.get(Pool, self).other_config
    if key in known:
        raise errors.map_duplicate_key("pool", "other_config", self, key)
    ctx.txn.update(Pool, self, other_config={**known, key: value})


def remove_from_other_config(ctx: CallContext, *, self: Ref[Pool], key: str) -> None:
    """Removes one of the pool's further settings; an absent key is no error."""
    known = ctx.txn.get(Pool, self).other_config
    ctx.txn.update(Pool, self, other_config={name: value for name, value in known.items() if name != key})
