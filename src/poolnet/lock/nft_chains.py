"""Which chains of nftables rules enforce the locks, whatever ports there are?

Written for the bridge family, hook prerouting: before the bridge learns a source address, and before a frame reaches
the host itself. The order of the checks is that of `policy`; each chain of a reason counts the frame against its port
and drops it, or in shadow mode lets it through.

nftables reads fixed places only, so the walk along IPv6 extension headers is laid out: one chain per place (in units
of 8 bytes behind the fixed header) where a header can begin. What is longer than `HEADER_UNITS_MAX` is refused.
Ranges of addresses are asked before single ones: see `nftables.change` for why order matters.
A match on bytes that a frame does not have is no match: every chain ends with what is to happen then.

Most of what an untagged locked guest sends is TCP from one of its addresses. Nothing but its MAC and address has to be
right there, so one look into one set decides before everything else; it lets through only what the rest would, too.
"""

from __future__ import annotations

from collections.abc import Iterator

from poolnet.lock.nft_elements import (
    IPV4_PORTS,
    IPV6_PORTS,
    MACS,
    NATIVE,
    OWN4,
    OWN4_RANGES,
    OWN6,
    OWN6_RANGES,
    PLAIN4,
    PLAIN6,
    PORTS,
    RECEIVERS,
    SHADOW,
    TAGS,
)
from poolnet.lock.reasons import DropReason

HEADER_UNITS_MAX = 4  # of 8 bytes: all extension headers of a packet together
LINK_OPTIONS_MAX = 2  # of 8 bytes, in neighbour discovery
GUEST_DEVICES = ("vif*", "tap*")  # what is closed unless it has a lock

Chain = tuple[str, tuple[str, ...]]
_OPTION_HEADERS = (0, 43, 60)
_TCP, _UDP, _ICMPV6, _FRAGMENT, _AUTHENTICATION = 6, 17, 58, 44, 51
_TAGGED = "@ll,96,16 { 0x8100, 0x88a8 }"
_LENGTH = "@nh,32,16"  # of an IPv6 packet's payload
_FROM_NOWHERE = "@nh,64,128 0x0"
_KNOWN_TO_THE_KERNEL = "meta l4proto 0-255"  # whole: neither cut off nor of another version
_ROUTER_TYPES = {
    130: DropReason.ROUTER,
    134: DropReason.ROUTER_ADVERTISEMENT,
    137: DropReason.REDIRECT,
    138: DropReason.ROUTER,
    151: DropReason.ROUTER,
    152: DropReason.ROUTER,
    153: DropReason.ROUTER,
}


def counter_set(reason: DropReason) -> str:
    """The set that has a counter per port for frames stopped for this reason."""
    return f"dropped_{_word(reason)}"


def base_chains() -> Iterator[Chain]:
    """Where frames enter and leave: those of guests' ports without a lock go nowhere."""
    known = f"iifname vmap @{PORTS}"
    closed_in = tuple(f'iifname "{name}" drop' for name in GUEST_DEVICES)
    closed_out = tuple(f'oifname "{name}" drop' for name in GUEST_DEVICES)
    hook = "type filter hook {} priority -300; policy accept;"
    groups = "ether daddr 01:80:c2:00:00:01-01:80:c2:00:00:0f"  # these skip prerouting
    yield "from_port", (hook.format("prerouting"), known, *closed_in)
    yield (
        "to_host",
        (
            hook.format("input"),
            f"{groups} {known}",
            *(f"{groups} {rule}" for rule in closed_in),
        ),
    )
    yield "to_port", (hook.format("postrouting"), f"oifname vmap @{RECEIVERS}", *closed_out)


def chains() -> Iterator[Chain]:
    """All chains but the base ones; a chain comes after those it jumps to."""
    for reason in DropReason:
        yield _stop_chain(reason)
    yield from _ipv4_chains()
    yield from _ipv6_chains()
    yield from _ethernet_chains()
    yield "to_untagged", ("@ll,96,16 0x0800 accept", f"{_TAGGED} drop", "accept")
    yield (
        "to_trunk",
        (
            f"{_TAGGED} oifname . @ll,112,16 & 0x0fff @{TAGS} accept",
            f"{_TAGGED} drop",
            f"oifname @{NATIVE} accept",
            "drop",
        ),
    )


def _word(reason: DropReason) -> str:
    return reason.value.replace("-", "_")


def _stop(reason: DropReason) -> str:
    return f"goto stop_{_word(reason)}"


def _stop_chain(reason: DropReason) -> Chain:
    count = f"add @{counter_set(reason)} {{ iifname }}"
    shadow = () if reason is DropReason.DISABLED else (f"iifname @{SHADOW} accept",)
    return f"stop_{_word(reason)}", (count, *shadow, "drop")


def _ethernet_chains() -> Iterator[Chain]:
    protocols = "meta protocol vmap { arp : goto arp_packet, ip : goto ipv4, ip6 : goto ipv6 }"
    stop_vlan = _stop(DropReason.VLAN)
    yield (
        "ethernet",
        (
            f"iifname . @ll,48,48 != @{MACS} {_stop(DropReason.MAC)}",
            protocols,
            _stop(DropReason.ETHERTYPE),
        ),
    )
    yield "disabled", (_stop(DropReason.DISABLED),)
    yield "unlocked", ("accept",)
    plain = (
        f"meta l4proto {_TCP} iifname . @ll,48,64 . @nh,96,32 @{PLAIN4} accept",
        f"meta l4proto {_TCP} @nh,48,8 {_TCP} iifname . @ll,48,64 . @nh,64,128 @{PLAIN6} accept",
    )
    yield "locked", (*plain, f"{_TAGGED} {stop_vlan}", "goto ethernet")
    for name, inside in (("unlocked_trunk", "accept"), ("locked_trunk", "goto ethernet")):
        yield (
            name,
            (
                f"{_TAGGED} iifname . @ll,112,16 & 0x0fff @{TAGS} {inside}",
                f"{_TAGGED} {stop_vlan}",
                f"iifname @{NATIVE} {inside}",
                stop_vlan,
            ),
        )


def _ipv4_chains() -> Iterator[Chain]:
    stop_arp, stop_source = _stop(DropReason.ARP), _stop(DropReason.IPV4_SOURCE)
    yield (
        "arp_probe",
        (
            f"iifname . @nh,192,32 @{OWN4_RANGES} accept",
            f"iifname . @nh,192,32 @{OWN4} accept",
            stop_arp,
        ),
    )
    yield (
        "arp_sender",
        (
            f"iifname . @nh,64,48 != @{MACS} {stop_arp}",
            "@nh,112,32 0x0 @nh,48,16 1 goto arp_probe",
            f"@nh,112,32 0x0 {stop_arp}",
            f"iifname . @nh,112,32 @{OWN4_RANGES} accept",
            f"iifname . @nh,112,32 @{OWN4} accept",
            stop_arp,
        ),
    )
    whole = "@nh,192,32 >= 0x0"  # the packet has its last field
    requests_and_replies = "@nh,0,64 { 0x0001080006040001, 0x0001080006040002 }"
    yield "arp_packet", (f"{requests_and_replies} {whole} goto arp_sender", stop_arp)

    yield (
        "ipv4_source",
        (
            f"@nh,96,32 0x0 {stop_source}",
            f"iifname . @nh,96,32 @{OWN4_RANGES} accept",
            f"iifname . @nh,96,32 @{OWN4} accept",
            stop_source,
        ),
    )
    header_words = range(5, 16)
    for words in header_words:
        port, to_port = f"@nh,{words * 32}", f"@nh,{words * 32 + 16}"
        yield (
            f"ipv4_udp_{words}",
            (
                f"@nh,16,16 < {words * 4 + 8} goto ipv4_source",
                f"{to_port},16 68 {_stop(DropReason.DHCP_SERVER)}",
                f"{port},16 67 {_stop(DropReason.DHCP_SERVER)}",
                f"{port},32 0x00440043 @nh,96,64 0x00000000ffffffff accept",
                "goto ipv4_source",
            ),
        )
    by_header = ", ".join(f"{0x40 | words:#x} : goto ipv4_udp_{words}" for words in header_words)
    yield (
        "ipv4_whole",
        (
            f"@nh,72,8 17 @nh,48,16 & 0x1fff == 0 @nh,0,8 vmap {{ {by_header} }}",
            "goto ipv4_source",
        ),
    )
    yield (
        "ipv4",
        (
            f"iifname != @{IPV4_PORTS} {stop_source}",
            f"{_KNOWN_TO_THE_KERNEL} goto ipv4_whole",
            stop_source,
        ),
    )


def _ipv6_chains() -> Iterator[Chain]:
    stop_source, broken = _stop(DropReason.IPV6_SOURCE), _stop(DropReason.HEADER_CHAIN)
    yield (
        "ipv6_source",
        (
            f"{_FROM_NOWHERE} {stop_source}",
            f"iifname . @nh,64,128 @{OWN6_RANGES} accept",
            f"iifname . @nh,64,128 @{OWN6} accept",
            stop_source,
        ),
    )
    yield from _neighbor_chains()
    yield from _start_chains()
    for units in reversed(range(HEADER_UNITS_MAX + 1)):
        for fragmented in (False, True):
            yield _udp_chain(units, fragmented)
            yield _icmpv6_chain(units, fragmented)
            if units < HEADER_UNITS_MAX:
                yield _option_chain(units, fragmented)
                yield _authentication_chain(units, fragmented)
                yield _fragment_chain(units, fragmented)
    # The kernel does not tell about fragments behind the first whose next header is an extension header.
    headers = ", ".join(str(header) for header in (*_OPTION_HEADERS, _FRAGMENT, _AUTHENTICATION))
    yield (
        "ipv6_later",
        (
            f"{_LENGTH} < 8 {broken}",
            f"@nh,320,8 {{ {headers} }} goto ipv6_source",
            f"{_KNOWN_TO_THE_KERNEL} goto ipv6_source",
            broken,
        ),
    )
    yield (
        "ipv6",
        (
            f"iifname != @{IPV6_PORTS} {stop_source}",
            f"@nh,0,8 & 0xf0 != 0x60 {broken}",
            f"@nh,48,8 {_FRAGMENT} @nh,336,16 & 0xfff8 != 0 goto ipv6_later",
            f"{_KNOWN_TO_THE_KERNEL} {_following(6, 0, fragmented=False)}",
            f"{_KNOWN_TO_THE_KERNEL} goto ipv6_source",
            broken,
        ),
    )


def _place(units: int, *, fragmented: bool) -> str:
    return f"{units}{'_fragment' if fragmented else ''}"


def _following(at: int, units: int, *, fragmented: bool) -> str:
    """The way to the header that begins after `units`, by the number in byte `at`; none for other protocols."""
    place = _place(units, fragmented=fragmented)
    room = units < HEADER_UNITS_MAX
    broken = _stop(DropReason.HEADER_CHAIN)
    ways = dict.fromkeys(_OPTION_HEADERS, f"goto ipv6_option_{place}" if room else broken)
    ways[_UDP] = f"goto ipv6_udp_{place}"
    ways[_FRAGMENT] = f"goto ipv6_header_{place}" if room else broken
    ways[_AUTHENTICATION] = f"goto ipv6_authentication_{place}" if room else broken
    ways[_ICMPV6] = f"goto icmpv6_{place}"
    return f"@nh,{at * 8},8 vmap {{ {', '.join(f'{number} : {way}' for number, way in ways.items())} }}"


def _option_chain(units: int, fragmented: bool) -> Chain:
    """A header whose second byte is its length in units, less one."""
    at = 40 + units * 8
    rules = []
    for more in range(HEADER_UNITS_MAX - units):
        end = units + 1 + more
        this = f"@nh,{at * 8 + 8},8 {more} {_LENGTH} >= {end * 8}"
        rules += [f"{this} {_following(at, end, fragmented=fragmented)}", f"{this} goto ipv6_source"]
    place = _place(units, fragmented=fragmented)
    return f"ipv6_option_{place}", (*rules, _stop(DropReason.HEADER_CHAIN))


def _authentication_chain(units: int, fragmented: bool) -> Chain:
    """A header whose second byte is its length in 4 bytes, less two. In IPv6 it fills whole units (RFC 4302)."""
    at = 40 + units * 8
    rules = []
    for size in range(1, HEADER_UNITS_MAX - units + 1):
        end = units + size
        this = f"@nh,{at * 8 + 8},8 {size * 2 - 2} {_LENGTH} >= {end * 8}"
        rules += [f"{this} {_following(at, end, fragmented=fragmented)}", f"{this} goto ipv6_source"]
    place = _place(units, fragmented=fragmented)
    return f"ipv6_authentication_{place}", (*rules, _stop(DropReason.HEADER_CHAIN))


def _fragment_chain(units: int, fragmented: bool) -> Chain:
    at = 40 + units * 8
    position = f"@nh,{at * 8 + 16},16"
    return f"ipv6_header_{_place(units, fragmented=fragmented)}", (
        f"{_LENGTH} < {units * 8 + 8} {_stop(DropReason.HEADER_CHAIN)}",
        f"{position} & 0xfff8 != 0 goto ipv6_source",
        f"{position} 0 {_following(at, units + 1, fragmented=fragmented)}",
        f"{position} 0 goto ipv6_source",
        _following(at, units + 1, fragmented=True),
        "goto ipv6_source",
    )


def _udp_chain(units: int, fragmented: bool) -> Chain:
    port, to_port = f"@nh,{320 + units * 64},16", f"@nh,{336 + units * 64},16"
    without_ports = _stop(DropReason.FRAGMENT) if fragmented else "goto ipv6_source"
    return f"ipv6_udp_{_place(units, fragmented=fragmented)}", (
        f"{_LENGTH} < {units * 8 + 8} {without_ports}",
        f"{to_port} 546 {_stop(DropReason.DHCP_SERVER)}",
        f"{port} 547 {_stop(DropReason.DHCP_SERVER)}",
        f"{port} 0 {without_ports}",
        "goto ipv6_source",
    )


def _icmpv6_chain(units: int, fragmented: bool) -> Chain:
    kind, size = f"@nh,{320 + units * 64},8", units * 8 + 8
    name = f"icmpv6_{_place(units, fragmented=fragmented)}"
    if fragmented:
        echo = f"{_LENGTH} >= {size} {kind} {{ 128, 129 }} goto ipv6_source"
        return name, (echo, _stop(DropReason.FRAGMENT))
    ways = {0: _stop(DropReason.HEADER_CHAIN), 143: "goto listener_report"}
    ways |= {router: _stop(reason) for router, reason in _ROUTER_TYPES.items()}
    if units:
        ways |= dict.fromkeys((135, 136), _stop(DropReason.NEIGHBOR_DISCOVERY))
    else:
        ways |= {133: "goto router_solicitation"} | dict.fromkeys((135, 136), "goto neighbor")
    return name, (
        f"{_LENGTH} < {size} {_stop(DropReason.HEADER_CHAIN)}",
        f"{kind} vmap {{ {', '.join(f'{number} : {way}' for number, way in sorted(ways.items()))} }}",
        "goto ipv6_source",
    )


def _start_chains() -> Iterator[Chain]:
    """What a host sends before it has an address."""
    yield (
        "router_solicitation",
        (
            f"{_FROM_NOWHERE} @nh,192,128 0xff020000000000000000000000000002 @nh,56,8 255 @nh,328,8 0 accept",
            "goto ipv6_source",
        ),
    )
    yield (
        "listener_report",
        (
            f"{_FROM_NOWHERE} @nh,192,128 0xff020000000000000000000000000016 accept",
            "goto ipv6_source",
        ),
    )


def _neighbor_chains() -> Iterator[Chain]:
    """Neighbour discovery without extension headers: the target at byte 48, options from byte 64 on.

    An option that is not one unit long says nothing, nor does what follows it, as there is room for two only.
    """
    stop = _stop(DropReason.NEIGHBOR_DISCOVERY)
    yield _link_chain("solicitation", kind=1, target_checked=False)
    yield _link_chain("advertisement", kind=2, target_checked=True)
    no_link = "@nh,512,8 1 @nh,520,8 1 @nh,528,48 != 0"
    no_second_link = "@nh,520,8 1 @nh,576,16 0x0101 @nh,592,48 != 0"
    twice = "@nh,512,16 0x0201 @nh,528,48 != 0 @nh,576,16 0x0201"
    yield (
        "duplicate_target",
        (  # of address detection
            f"iifname . @nh,384,128 @{OWN6_RANGES} accept",
            f"iifname . @nh,384,128 @{OWN6} accept",
            stop,
        ),
    )
    yield (
        "duplicate",
        (  # with a source link address it is none, but a solicitation from nowhere
            f"{_LENGTH} < 32 goto duplicate_target",
            f"{no_link} goto solicitation",
            f"{_LENGTH} < 40 goto duplicate_target",
            f"{no_second_link} goto solicitation",
            f"{twice} {stop}",
            "goto duplicate_target",
        ),
    )
    yield (
        "neighbor",
        (
            f"@nh,328,8 != 0 {stop}",
            f"@nh,56,8 != 255 {stop}",
            f"{_LENGTH} < 24 {stop}",
            f"{_LENGTH} >= {24 + 8 * (LINK_OPTIONS_MAX + 1)} {stop}",
            f"@nh,384,128 0x0 {stop}",
            "@nh,320,8 136 goto advertisement",
            f"{_FROM_NOWHERE} @nh,192,16 0xff02 goto duplicate",
            "goto solicitation",
        ),
    )


def _link_chain(name: str, *, kind: int, target_checked: bool) -> Chain:
    """One's own link address, if any, and none twice."""
    stop = _stop(DropReason.NEIGHBOR_DISCOVERY)
    target = f"iifname . @nh,384,128 != @{OWN6_RANGES} iifname . @nh,384,128 != @{OWN6} {stop}"
    first, second = "@nh,528,48", "@nh,592,48"
    twice = (
        f"@nh,512,16 {option} {first} != 0 @nh,576,16 {option} {stop}" for option in ("0x0101", "0x0201")
    )
    return name, (
        *((target,) if target_checked else ()),
        f"{_LENGTH} < 32 goto ipv6_source",
        "@nh,520,8 != 1 goto ipv6_source",
        f"@nh,512,8 {kind} {first} != 0 iifname . {first} != @{MACS} {stop}",
        f"{_LENGTH} < 40 goto ipv6_source",
        f"@nh,576,16 {kind << 8 | 1:#06x} {second} != 0 iifname . {second} != @{MACS} {stop}",
        *twice,
        "goto ipv6_source",
    )
