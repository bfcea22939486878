"""What one host's network is: the value that is both desired and observed.

`derive` computes a `HostNetwork` from the pool database, a backend's `observe` reads one from the kernel and the
switch, and `diff` compares the two. Everything here is plain frozen data that survives a trip through JSON; what only
the kernel knows (carrier, speed, leases) lives in `facts` instead, so that the two states compare cleanly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

VLAN_TAG_MAX: Final = 4094


class Ipv4Mode(StrEnum):
    """How a bridge gets its IPv4 address."""

    NONE = "none"
    DHCP = "dhcp"
    STATIC = "static"


class Ipv6Mode(StrEnum):
    """How a bridge gets its IPv6 addresses; with NONE it has not even a link-local one."""

    NONE = "none"
    DHCP = "dhcp"
    STATIC = "static"
    AUTOCONF = "autoconf"


class LockMode(StrEnum):
    """What a guest port may do, after `network_default` has been resolved (spec §15.8)."""

    UNLOCKED = "unlocked"
    LOCKED = "locked"
    DISABLED = "disabled"


class BondMode(StrEnum):
    """The bond modes of the XenAPI."""

    BALANCE_SLB = "balance-slb"
    ACTIVE_BACKUP = "active-backup"
    LACP = "lacp"


class TunnelKind(StrEnum):
    """The tunnel protocols of the XenAPI; both carry Ethernet frames over IP."""

    GRE = "gre"
    VXLAN = "vxlan"


@dataclass(frozen=True, slots=True, kw_only=True)
class BondOptions:
    """How a bond's members share its traffic. Times are in milliseconds; `properties` are the XenAPI's LACP keys."""

    mode: BondMode
    miimon_ms: int = 100
    updelay_ms: int = 31000
    downdelay_ms: int = 200
    use_carrier: bool = True
    rebalance_interval_ms: int = 1800000
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelOptions:
    """Where a tunnel leads. `key` (GRE key, VXLAN network identifier) is the same at all ends, from 0 to 2^24 - 1.

    `remotes` are the addresses of the other ends, sorted. Frames go to each of them, and never from one to another:
    with a tunnel between every two hosts there would be a loop. `local6` is the host's own address for GRE to other ends
    with IPv6 addresses: the kernel does not choose one for itself there.
    """

    kind: TunnelKind
    key: int
    remotes: tuple[str, ...] = ()
    local6: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """What connects a bridge to other machines: one NIC, a bond of several, or a tunnel.

    `device` is the NIC's kernel name, or the bond's or tunnel's name (`bond0`, `tunnel0`). `members` are NIC names; for
    a single NIC they are just `(device,)` and `bond` is None; a tunnel has none.
    """

    device: str
    members: tuple[str, ...]
    bond: BondOptions | None = None
    tunnel: TunnelOptions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IpConfig:
    """The addresses of the host on one bridge.

    `ipv4_address` is `A.B.C.D/len` and set only in static mode; `ipv6_addresses` likewise. Gateways are set only on
    the bridge that gives the host its default route, DNS only on the one that gives it its name servers (spec §24.4).
    `dhcp_routes` and `dhcp_dns` say whether a DHCP lease on this bridge may set them; in the modes DHCP and AUTOCONF of
    IPv6 it is routers that announce the default route. `strange_addresses` are those that somebody has put beside, where no
    lease or router gives any (`A.B.C.D/len`, sorted); nobody wants any.
    """

    ipv4_mode: Ipv4Mode = Ipv4Mode.NONE
    ipv4_address: str = ""
    ipv4_gateway: str = ""
    ipv6_mode: Ipv6Mode = Ipv6Mode.NONE
    ipv6_addresses: tuple[str, ...] = ()
    ipv6_gateway: str = ""
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()  # "SUBNET/LEN via GATEWAY"
    dhcp_routes: bool = False
    dhcp_dns: bool = False
    strange_addresses: tuple[str, ...] = ()


NO_IP = IpConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A virtual switch on this host, under the name that `network.bridge` has.

    Exactly one of three kinds: with an `uplink`; on top of another bridge with a VLAN tag (`parent`, `vlan_tag`; the
    parent must be in the same state); or internal (neither). `mac` is "" when the switch may choose. `mtu_bytes` is the
    MTU of the bridge's own interface and of its uplink. `network_uuids` mark the switch's record (spec §9.2).
    `strange_vlans` is what somebody made of the VLANs of its own port and its uplink's, `eth0: tag 5`; nobody wants any.
    """

    name: str
    uplink: Uplink | None = None
    parent: str = ""
    vlan_tag: int = -1
    mac: str = ""
    mtu_bytes: int = 1500
    network_uuids: tuple[str, ...] = ()
    ip: IpConfig = NO_IP
    igmp_snooping: bool = False
    fail_mode_secure: bool = False  # other_config:vswitch-controller-fail-mode=secure
    strange_vlans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLock:
    """What one guest port may send (the lock room gives it its meaning).

    Addresses are single addresses or prefixes in text form. `trunks` are the VLAN ids a trunk port may use; empty
    means an access port. With `shadow` the lock counts what it would drop and drops nothing.
    """

    mode: LockMode
    mac: str
    ipv4_allowed: tuple[str, ...] = ()
    ipv6_allowed: tuple[str, ...] = ()
    trunks: tuple[int, ...] = ()
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPort:
    """The switch port of one VIF of a running VM.

    `device` is the host end of the VIF (`vif<domid>.<device>`), made by the guest runtime before the port is added.
    `bridge` is the name of a bridge in the same state (a VLAN's bridge makes an access port with its tag). The rate is
    in kilobytes (1024 bytes) per second, 0 for none.
    """

    device: str
    bridge: str
    lock: PortLock
    mtu_bytes: int = 1500
    rate_kbytes_per_s: int = 0
    vif_uuid: str = ""
    vm_uuid: str = ""
    network_uuid: str = ""


EVERYWHERE = "*"  # instead of bridges' names: only ever observed


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How a NIC, or a bridge's own interface, is to work: what others know as the options of `ethtool`.

    `values` are (key, value), sorted: `speed` (Mbit/s), `duplex` (`full`, `half`), `autoneg` (`on`, `off`), `advertise`
    (a hexadecimal mask), and the offloads `rx tx sg tso ufo gso gro lro` (`on`, `off`). What is not named is as the
    device was found. A device that cannot do what is asked does without; that is no failure.
    """

    name: str
    values: tuple[tuple[str, str], ...]


class FunctionsMode(StrEnum):
    """How a NIC gets its virtual functions (spec §14.4)."""

    SYSFS = "sysfs"  # at once
    MODPROBE = "modprobe"  # by an option of its driver, from the next boot on
    MANUAL = "manual"  # the administrator has made them, and ends them


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualFunction:
    """How the NIC is to treat one of its virtual functions, which a guest has.

    `address` is the function's own on the PCI bus. `spoof_checked`: the NIC drops frames from another MAC than `mac`. With a
    `vlan_tag` (1 to 4094; 0 for none) the NIC tags what the guest sends, which cannot see the tag. The rate is in
    Mbit/s, 0 for none; a NIC that cannot limit it does without. One that is not `connected` has no link.
    """

    address: str
    mac: str
    vlan_tag: int = 0
    rate_mbits_per_s: int = 0
    connected: bool = True
    spoof_checked: bool = True
    vif_uuid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SriovNic:
    """A NIC that has as many virtual functions as it can, and those that guests have, sorted by address."""

    device: str
    mode: FunctionsMode
    functions: tuple[VirtualFunction, ...] = ()


class DriftPolicy(StrEnum):
    """What becomes of a change that somebody else has made on a host."""

    REPAIR = "repair"  # it is put back
    ADOPT = "adopt"  # the database takes it over, where it can
    LEAVE = "leave"  # it stays until the host's network is changed the next time


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNetwork:
    """Everything that one host's network should be, or is. Bridges, ports, links and SR-IOV NICs are sorted by name.

    `nbd_bridges` are those on which the host's NBD port is open (spec §7.6), sorted; observed without any filter they
    are just EVERYWHERE. `http_closed`: nobody but the host itself reaches its port for plain HTTP (spec §18.9).
    """

    bridges: tuple[Bridge, ...] = ()
    ports: tuple[GuestPort, ...] = ()
    links: tuple[LinkSettings, ...] = ()
    sriov: tuple[SriovNic, ...] = ()
    management_bridge: str = ""  # the bridge that carries the management address; "" when management is off
    nbd_bridges: tuple[str, ...] = ()
    http_closed: bool = False
    drift: DriftPolicy = DriftPolicy.REPAIR  # for the host daemon to know; it is never observed
    foreign: tuple[str, ...] = field(
        default=(), compare=False
    )  # observed objects that are not ours; never touched

    def bridge(self, name: str) -> Bridge | None:
        """The bridge of that name, or None."""
        return next((b for b in self.bridges if b.name == name), None)

    def port(self, device: str) -> GuestPort | None:
        """The guest port on that device, or None."""
        return next((p for p in self.ports if p.device == device), None)

    def link(self, name: str) -> LinkSettings | None:
        """The settings of that interface, or None."""
        return next((link for link in self.links if link.name == name), None)

    def sriov_nic(self, device: str) -> SriovNic | None:
        """The NIC of that name with its virtual functions, or None."""
        return next((nic for nic in self.sriov if nic.device == device), None)


EMPTY = HostNetwork()
