"""How do nftables' expressions read a frame, and when is what they read in a set?

A value that the frame does not have reads as None, and no match holds for it, not even an inverted one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Value = int | str | tuple["int | str", ...]
Read = Callable[["Context"], "Value | None"]
_One = int | str
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_VLAN_TYPES, _LENGTH_MAX, _LENGTH_TYPE = (0x8100, 0x88A8), 0x5FF, 4  # ETH_P_802_2
_PROTOCOLS = {0x0800: "ip", 0x0806: "arp", 0x86DD: "ip6"}
_NAMED = {"8021q": 0x8100, "8021ad": 0x88A8, "tcp": 6}  # as nft prints them, whichever way they were written
_AUTHENTICATION = 51
_EXTENSION_HEADERS = (0, 43, 44, _AUTHENTICATION, 60)
_FIELDS = {
    ("ether", "daddr"): ("ll", 0, 48),
    ("ether", "saddr"): ("ll", 48, 48),
    ("ether", "type"): ("ll", 96, 16),
}


class UnknownRuleError(ValueError):
    """The table has something that the evaluator does not know."""


@dataclass(frozen=True, slots=True)
class Context:
    """A frame as the kernel sees it at a hook of the bridge: one VLAN tag is taken out of what follows the MACs."""

    frame: bytes
    network: bytes
    meta: Mapping[str, _One]


def context(frame: bytes, *, iifname: str = "", oifname: str = "") -> Context:
    """A frame at a hook; the name of the port that it does not have yet, or no more, is empty."""
    rest = frame[12:]
    if int.from_bytes(rest[:2]) in _VLAN_TYPES and len(rest) >= 6:
        rest = rest[4:]
    ethertype, network = int.from_bytes(rest[:2]), rest[2:]
    protocol = ethertype if ethertype > _LENGTH_MAX else _LENGTH_TYPE
    meta: dict[str, _One] = {"iifname": iifname, "oifname": oifname}
    meta["protocol"] = _PROTOCOLS.get(protocol, protocol)
    l4proto = {"ip": _ipv4_protocol, "ip6": _ipv6_protocol}.get(str(meta["protocol"]), lambda _: None)(
        network
    )
    if l4proto is not None:
        meta["l4proto"] = l4proto
    return Context(frame, network, meta)


def reader(expression: Any) -> Read:
    """What reads the left side of a match, or the key of a map. Raises UnknownRuleError."""
    if not isinstance(expression, Mapping):
        raise UnknownRuleError(f"{expression!r} reads nothing")
    kind, content = next(iter(expression.items()))
    if kind == "meta":
        key = str(content["key"])
        return lambda seen: seen.meta.get(key)
    if kind == "payload":
        return _payload_reader(content)
    if kind == "&":
        read, mask = reader(content[0]), int(content[1])

        def masked(seen: Context) -> Value | None:
            value = read(seen)
            return value & mask if isinstance(value, int) else None

        return masked
    if kind == "concat":
        return _concat_reader([reader(part) for part in content])
    raise UnknownRuleError(f"{kind} is not known")


def _concat_reader(parts: list[Read]) -> Read:
    def together(seen: Context) -> Value | None:
        values: list[_One] = []
        for part in parts:
            value = part(seen)
            if value is None or isinstance(value, tuple):
                return None
            values.append(value)
        return tuple(values)

    return together


def _payload_reader(content: Mapping[str, Any]) -> Read:
    if "protocol" in content:
        place = _FIELDS.get((content["protocol"], content["field"]))
        if place is None:
            raise UnknownRuleError(f"{content['protocol']} {content['field']} is not known")
        base, offset, length = place
    else:
        base, offset, length = content["base"], content["offset"], content["len"]
    if base not in ("ll", "nh") or offset % 8 or length % 8:
        raise UnknownRuleError(f"@{base},{offset},{length} is not known")
    start, end = offset // 8, (offset + length) // 8
    in_frame = base == "ll"
    names = _PROTOCOLS if content.get("field") == "type" else {}

    def read(seen: Context) -> _One | None:
        data = (seen.frame if in_frame else seen.network)[start:end]
        if len(data) != end - start:
            return None
        value = int.from_bytes(data)
        return names.get(value, value)

    return read


def matcher(content: Mapping[str, Any], sets: Sets) -> Callable[[Context], bool]:
    """The test that a match makes. Raises UnknownRuleError."""
    read, right, operator = reader(content["left"]), content["right"], content["op"]
    if operator in ("<", ">=", ">", "<="):
        limit = Sets.value(right)
        if not isinstance(limit, int):
            raise UnknownRuleError(f"{right} is no number")
        return _comparison(read, operator, limit)
    if operator not in ("==", "!=", "in"):
        raise UnknownRuleError(f"{operator} is not known")
    holds = _membership(right, sets)
    wanted = operator != "!="

    def test(seen: Context) -> bool:
        value = read(seen)
        return value is not None and holds(value) == wanted

    return test


def _comparison(read: Read, operator: str, limit: int) -> Callable[[Context], bool]:
    tests: dict[str, Callable[[int], bool]] = {
        "<": lambda value: value < limit,
        "<=": lambda value: value <= limit,
        ">": lambda value: value > limit,
        ">=": lambda value: value >= limit,
    }
    holds = tests[operator]

    def test(seen: Context) -> bool:
        value = read(seen)
        return isinstance(value, int) and holds(value)

    return test


def _membership(right: Any, sets: Sets) -> Callable[[Value], bool]:
    if isinstance(right, str) and right.startswith("@"):
        return sets.contains(right)
    if isinstance(right, Mapping) and "set" in right:
        return _contains(right["set"])
    return _contains([right])


class Sets:
    """The named sets and maps of a table."""

    def __init__(self, items: Iterable[Mapping[str, Any]]) -> None:
        found = [item.get("set") or item.get("map") for item in items]
        self._elements = {group["name"]: group.get("elem", []) for group in found if group}
        self._contains: dict[str, Callable[[Value], bool]] = {}

    def elements(self, name: str) -> list[Any]:
        """The elements of `@name`. Raises UnknownRuleError."""
        try:
            return list(self._elements[name.removeprefix("@")])
        except KeyError as error:
            raise UnknownRuleError(f"there is no set {name}") from error

    def contains(self, name: str) -> Callable[[Value], bool]:
        """Whether a value is in `@name`. Raises UnknownRuleError."""
        if name not in self._contains:
            self._contains[name] = _contains(self.elements(name))
        return self._contains[name]

    @staticmethod
    def value(listed: Any) -> Any:
        """A single value, a tuple of them, or a `range`, as it is compared. Raises UnknownRuleError."""
        if isinstance(listed, bool) or listed is None:
            raise UnknownRuleError(f"{listed!r} is no value")
        if isinstance(listed, int):
            return listed % (1 << 64)  # nft prints numbers of 64 bits as if they had a sign
        if isinstance(listed, str):
            return _from_text(listed)
        kind, content = next(iter(listed.items()))
        if kind == "elem":
            return Sets.value(content["val"])
        if kind == "range":
            return range(Sets.value(content[0]), Sets.value(content[1]) + 1)
        if kind == "concat":
            return tuple(Sets.value(part) for part in content)
        raise UnknownRuleError(f"{kind} is not known")


def _contains(elements: Iterable[Any]) -> Callable[[Value], bool]:
    single: set[Value] = set()
    patterns: list[str] = []
    ranges: dict[Value, list[range]] = {}  # by what comes before the range in a tuple
    for element in elements:
        value = Sets.value(element)
        if isinstance(value, range):
            ranges.setdefault((), []).append(value)
        elif isinstance(value, tuple) and value and isinstance(value[-1], range):
            ranges.setdefault(value[:-1], []).append(value[-1])
        elif isinstance(value, tuple) and any(isinstance(part, range) for part in value):
            raise UnknownRuleError(f"a range in the middle: {element}")
        elif isinstance(value, str) and value.endswith("*"):
            patterns.append(value[:-1])
        else:
            single.add(value)

    def holds(value: Value) -> bool:
        if value in single:
            return True
        if patterns and isinstance(value, str) and value.startswith(tuple(patterns)):
            return True
        head, last = (value[:-1], value[-1]) if isinstance(value, tuple) else ((), value)
        return bool(ranges) and any(last in one for one in ranges.get(head, ()))

    return holds


def _from_text(text: str) -> _One:
    if text.startswith("0x"):
        return int(text, 16)
    if text in _NAMED:
        return _NAMED[text]
    if _MAC.fullmatch(text):
        return int(text.replace(":", ""), 16)
    return text


def _ipv4_protocol(packet: bytes) -> int | None:
    """As the kernel reads it: only of a packet that is whole."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    header, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4])
    return packet[9] if 20 <= header <= total <= len(packet) else None


def _ipv6_protocol(packet: bytes) -> int | None:
    """As the kernel reads it: behind the extension headers, which may go beyond the packet's own length.

    It takes an authentication header for the upper layer.
    """
    if len(packet) < 40 or packet[0] >> 4 != 6 or len(packet) < 40 + int.from_bytes(packet[4:6]):
        return None
    protocol, at = packet[6], 40
    while protocol in _EXTENSION_HEADERS:
        if len(packet) < at + 2:
            return None
        if protocol == _AUTHENTICATION:
            break
        following, size = packet[at], packet[at + 1]
        if protocol == 44:
            if len(packet) < at + 4:
                return None
            if int.from_bytes(packet[at + 2 : at + 4]) & 0xFFF8:
                return None if following in _EXTENSION_HEADERS else following
            at += 8
        else:
            at += (size + 1) * 8
        protocol = following
    return protocol
