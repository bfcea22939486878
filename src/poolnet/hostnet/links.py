"""How are a host's NICs and bridges' interfaces to work, according to other-config and properties? See spec §24.2.

`derive` asks. Values that are none are left out, as the reference does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from poolnet.hostnet.state import Bridge, LinkSettings
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF

_PREFIX: Final = "ethtool-"
_SWITCHES: Final = frozenset(("autoneg", "rx", "tx", "sg", "tso", "ufo", "gso", "gro", "lro"))
_SWITCH_WORDS: Final = {"on": "on", "true": "on", "off": "off", "false": "off"}
_SPEED_MAX: Final = 2**31 - 1


def link_settings(
    bridges: Iterable[Bridge], pifs: Iterable[PIF], of_bridges: Mapping[str, Mapping[str, str]]
) -> tuple[LinkSettings, ...]:
    """The settings of the bridges' NICs, from their PIFs, and of bridges' own interfaces, as given; sorted by name."""
    by_device = {pif.device: pif for pif in pifs if pif.physical}
    found = dict(of_bridges)
    for bridge in bridges:
        for nic in bridge.uplink.members if bridge.uplink is not None else ():
            if nic in by_device:
                found[nic] = of_nic(by_device[nic])
    return tuple(
        LinkSettings(name=name, values=tuple(sorted(values.items())))
        for name, values in sorted(found.items())
        if values
    )


def of_nic(pif: PIF) -> dict[str, str]:
    """The settings of a NIC. The property `gro` that is on, as it is at first, leaves the NIC what it has by itself."""
    by_property = {"gro": "off"} if pif.properties.get("gro") == "off" else {}
    return by_property | dict(_values(pif.other_config))


def of_network(network: Network) -> dict[str, str]:
    """The settings of the interfaces of a network's bridges."""
    return dict(_values(network.other_config))


def _values(other_config: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in other_config.items():
        key = name.removeprefix(_PREFIX)
        if key == name:
            continue
        value = _value(key, text)
        if value:
            yield key, value


def _value(key: str, text: str) -> str:
    if key in _SWITCHES:
        return _SWITCH_WORDS.get(text, "")
    if key == "duplex":
        return text if text in ("half", "full") else ""
    if key == "speed" and text.isascii() and text.isdecimal() and len(text) <= 10:
        return str(int(text)) if 0 < int(text) <= _SPEED_MAX else ""
    if key == "advertise" and text[:2].lower() == "0x" and len(text) <= 10:
        return f"{mask:#x}" if (mask := _hexadecimal(text)) is not None else ""
    return ""


def _hexadecimal(text: str) -> int | None:
    digits = text[2:]
    if not digits or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
        return None
    return int(digits, 16)
