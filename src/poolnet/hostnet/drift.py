"""Where does a host's network differ from what it should be, field by field?

Three values of each field are told beside each other: what the database intends, what the host daemon has applied and keeps,
and what there is. The daemon asks what somebody else has changed, the API what to show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

from msgspec import Struct

from poolnet.hostnet.match import settle
from poolnet.hostnet.state import HostNetwork

ABSENT: Final = "absent"
PRESENT: Final = "present"
NAME_SERVERS: Final = frozenset(("ip.dns_servers", "ip.dns_search"))
"""The fields of a bridge that the host has in a file, not on an interface."""
BESIDE: Final = frozenset(("ip.strange_addresses",))
"""The fields of a bridge that say what is there besides: what is wanted works all the same."""

Fields = Mapping[tuple[str, str], str]
"""The values of a state's fields, as texts, by subject (`bridge xenbr1`) and field (`ip.ipv4_address`)."""


class Change(Struct, frozen=True, kw_only=True):
    """A field that somebody else has changed. For a whole subject the field is "", the values `present` and `absent`."""

    subject: str
    field: str = ""
    was: str
    now: str

    def text(self) -> str:
        """In words."""
        if not self.field:
            return f"{self.subject} is {self.now}, not {self.was}"
        return f"{self.subject}: {self.field} is {self.now or 'unset'}, not {self.was or 'unset'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One field whose three values are not all the same."""

    subject: str
    field: str
    intended: str
    applied: str
    actual: str


def changes(actual: HostNetwork, applied: HostNetwork) -> tuple[Change, ...]:
    """What there is other than was applied, bridges first. Of a subject that is missing or one too many, only that."""
    there, wanted = _fields(settle(actual, actual)), _fields(settle(actual, applied))
    found: list[Change] = []
    for subject, field in dict.fromkeys((*wanted, *there)):
        was, now = wanted.get((subject, field), ABSENT), there.get((subject, field), ABSENT)
        if was != now and (not field or ((subject, "") in wanted and (subject, "") in there)):
            found.append(Change(subject=subject, field=field, was=was, now=now))
    return tuple(found)


def compare(intended: HostNetwork, applied: HostNetwork, actual: HostNetwork) -> tuple[Row, ...]:
    """The fields that differ between any two of the three."""
    three = [_fields(settle(actual, one)) for one in (intended, applied, actual)]
    subjects = {key[0] for one in three for key in one}
    rows: list[Row] = []
    for subject in sorted(subjects):
        has = [(subject, "") in one for one in three]
        keys = dict.fromkeys(key for one in three for key in one if key[0] == subject)
        for key in keys:
            if key[1] and not all(has):
                continue
            values = [one.get(key, ABSENT) for one in three]
            if len(set(values)) > 1:
                first, second, third = values
                rows.append(Row(subject=subject, field=key[1], intended=first, applied=second, actual=third))
    return tuple(rows)


def _fields(network: HostNetwork) -> Fields:
    return dict(_all_fields(network))


def _all_fields(network: HostNetwork) -> Iterator[tuple[tuple[str, str], str]]:
    named: tuple[tuple[str, str, Any], ...] = (
        *(("bridge", bridge.name, bridge) for bridge in network.bridges),
        *(("port", port.device, port) for port in network.ports),
        *(("link", link.name, link) for link in network.links),
        *(("virtual functions of", nic.device, nic) for nic in network.sriov),
    )
    for noun, name, part in named:
        subject = f"{noun} {name}"
        yield (subject, ""), PRESENT
        for field, value in _parts(part, ""):
            yield (subject, field), value
    yield ("host", ""), PRESENT
    yield ("host", "management_bridge"), network.management_bridge
    yield ("host", "nbd_bridges"), _word(tuple(sorted(network.nbd_bridges)))
    yield ("host", "http_closed"), _word(network.http_closed)


def _parts(part: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for each in fields(part):
        value = getattr(part, each.name)
        name = f"{prefix}{each.name}"
        if each.name in ("name", "device") and not prefix:
            continue
        if is_dataclass(value):
            yield from _parts(value, f"{name}.")
        else:
            yield name, _word(value)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(" ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in value)
    return "" if value is None else str(value)
