"""What only the kernel knows about a host: NICs, links, addresses in use. The sibling of `HostNetwork`.

Reported by the host daemon as it changes; the pool writes it to the dynamic fields of the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RATE: Final = "rate"
SPOOF_CHECK: Final = "spoof-check"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFacts:
    """A virtual function of a NIC that is there now, by its PCI address; ids as of NICs.

    `refused` is what the NIC cannot do of what it was asked for its guest: RATE, SPOOF_CHECK.
    """

    pci_bus_path: str
    vendor_id: str = ""
    device_id: str = ""
    vendor_name: str = ""
    device_name: str = ""
    driver: str = ""
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SriovFacts:
    """What a NIC can do with virtual functions (spec §14, dataplane D).

    `functions_max` is how many it can have, as far as the administrator lets it; `functions_now` how many it has.
    `by_module`: an option of its driver decides, from the next boot on. `damage` says why the file with that option
    cannot be used, `failed` why the functions could not be switched on when that was tried last; "" for neither.
    """

    functions_max: int
    functions_now: int = 0
    by_module: bool = False
    damage: str = ""
    failed: str = ""
    functions: tuple[FunctionFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NicFacts:
    """A physical NIC. `speed_mbps` is 0 without carrier or when unknown; ids are four hex digits without 0x.

    `position` is its place among the host's NICs, whatever its name; -1 when nobody keeps count. `sriov` is None for a
    NIC that cannot have virtual functions.
    """

    name: str
    mac: str
    mtu_bytes: int = 1500
    carrier: bool = False
    speed_mbps: int = 0
    full_duplex: bool = False
    pci_bus_path: str = ""
    vendor_id: str = ""
    device_id: str = ""
    vendor_name: str = ""
    device_name: str = ""
    driver: str = ""
    position: int = -1
    sriov: SriovFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LacpMemberFacts:
    """What LACP says of one member of a bond.

    `current`: the partner was heard of in time. `attached`: the member is in the aggregate that carries the traffic.
    `partner_system` is the partner's MAC, "" while none was heard of; key and port number are the partner's own.
    """

    name: str
    current: bool = False
    attached: bool = False
    partner_system: str = ""
    partner_key: int = 0
    partner_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LacpFacts:
    """What LACP says of a bond. `negotiated`: it has a partner; `system` and `key` are its own."""

    negotiated: bool = False
    fast: bool = False
    system: str = ""
    key: int = 0
    members: tuple[LacpMemberFacts, ...] = ()

    @property
    def partner_system(self) -> str:
        """The partner of the members that carry the traffic, "" when there is none."""
        return next((m.partner_system for m in self.members if m.attached and m.partner_system), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class BondFacts:
    """A bond's links, as names of members.

    `members_up` have carrier. `enabled` may carry traffic: they have had carrier for as long as the bond's options want,
    and LACP allows them. `active` do carry it: one for active-backup, else those that are enabled. `lacp` is None for
    a bond that does not speak it.
    """

    device: str
    members: tuple[str, ...]
    members_up: tuple[str, ...] = ()
    enabled: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    lacp: LacpFacts | None = None

    @property
    def is_settling(self) -> bool:
        """Whether a member with carrier does not carry traffic yet; nothing may tell when it does."""
        return not set(self.members_up) <= set(self.enabled)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressFacts:
    """The addresses that a bridge really has, from the kernel (`A.B.C.D/len`), and the lease's gateway and DNS."""

    bridge: str
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()
    gateway: str = ""
    dns_servers: tuple[str, ...] = ()


DEPARTING, ARRIVING = "departing", "arriving"
WAITING = (DEPARTING, ARRIVING)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFacts:
    """A guest as its runtime sees it.

    `addresses` are (device number of the VIF, address without prefix length) pairs seen inside the guest. One that is not
    `mobile` cannot go to another host while it runs. One that is to be `asked_first` takes its time to end.
    """

    vm_uuid: str
    domid: int
    state: str  # running | paused | stopped, or WAITING for its migration to be decided
    addresses: tuple[tuple[int, str], ...] = ()
    mobile: bool = True
    asked_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFacts:
    """Counters of one guest port: frames dropped by its lock, by reason; and those let through in shadow mode."""

    device: str
    dropped: tuple[tuple[str, int], ...] = ()
    shadowed: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """All facts of one host at one moment."""

    hostname: str = ""
    backend: str = "openvswitch"
    nics: tuple[NicFacts, ...] = ()
    bonds: tuple[BondFacts, ...] = ()
    addresses: tuple[AddressFacts, ...] = ()
    guests: tuple[GuestFacts, ...] = ()
    bridges_up: tuple[str, ...] = ()
    storage: tuple[str, ...] = ()  # the uuids of the SRs that are mounted
    memory_total_bytes: int = 0
    memory_free_bytes: int = 0
    cpu_count: int = 0
    software: tuple[tuple[str, str], ...] = ()  # versions of kernel, switch …
    fenced: bool = False  # it has stopped its guests, because it could not prove that it sees the majority
