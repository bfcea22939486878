"""What does the driver of an interface say of it, and take from us? The requests that the program `ethtool` makes.

`nics` asks for facts, `link_settings` reads and changes options. By ioctl, which works for one interface of the caller's
network namespace at a time, in a few microseconds, and which every driver and kernel knows.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from array import array
from collections.abc import Mapping
from typing import Final

SIOCETHTOOL: Final = 0x8946  # <linux/sockios.h>
_GSET, _SSET = 0x1, 0x2  # <linux/ethtool.h>
_GFLAGS, _SFLAGS = 0x25, 0x26
_FLAG_LRO: Final = 1 << 15
_SETTINGS: Final = struct.Struct("=IIIHBBBBBBIIHBBI8x")  # struct ethtool_cmd
_ADVERTISING, _SPEED, _DUPLEX, _AUTONEG, _SPEED_HIGH = 2, 3, 4, 8, 12  # its fields
_SPEED_UNKNOWN: Final = frozenset((0, 0xFFFF, 0xFFFFFFFF))
_DUPLEXES: Final = {"half": 0, "full": 1}
_SWITCH: Final = {"off": 0, "on": 1}
_OFFLOADS: Final = {  # get, set
    "rx": (0x14, 0x15),
    "tx": (0x16, 0x17),
    "sg": (0x18, 0x19),
    "tso": (0x1E, 0x1F),
    "ufo": (0x21, 0x22),
    "gso": (0x23, 0x24),
    "gro": (0x2B, 0x2C),
}
LINK_KEYS: Final = ("autoneg", "speed", "duplex", "advertise")
OFFLOAD_KEYS: Final = (*_OFFLOADS, "lro")  # what others rest on comes first


def ask(asked: socket.socket, name: str, content: bytes) -> bytes | None:
    """Sends an ethtool structure and returns it filled; None when the driver does not know the command, or refuses."""
    buffer = array("B", content)
    address, _ = buffer.buffer_info()
    try:
        fcntl.ioctl(asked, SIOCETHTOOL, struct.pack("16sP16x", name.encode(), address))
    except OSError:
        return None
    return buffer.tobytes()


def number(asked: socket.socket, name: str, command: int) -> int | None:
    """The answer to a command that has a number for one; None as for `ask`."""
    answer = ask(asked, name, struct.pack("II", command, 0))
    return None if answer is None else int(struct.unpack_from("I", answer, 4)[0])


def speed_and_duplex(asked: socket.socket, name: str) -> tuple[int, bool]:
    """The speed in Mbit/s (0 when unknown), and whether the link is full duplex."""
    fields = _settings(asked, name)
    if fields is None:
        return 0, False
    return _speed(fields), fields[_DUPLEX] == _DUPLEXES["full"]


def read(asked: socket.socket, name: str) -> dict[str, str]:
    """The options of an interface, as far as its driver tells, under the keys of LINK_KEYS and OFFLOAD_KEYS."""
    values: dict[str, str] = {}
    fields = _settings(asked, name)
    if fields is not None:
        values["autoneg"] = "on" if fields[_AUTONEG] else "off"
        values["advertise"] = f"{fields[_ADVERTISING]:#x}"
        values |= {"speed": str(_speed(fields))} if _speed(fields) else {}
        values |= {word: word for word, code in _DUPLEXES.items() if fields[_DUPLEX] == code}
        if "half" in values or "full" in values:
            values["duplex"] = values.pop("half", "") or values.pop("full")
    for key, (command, _) in _OFFLOADS.items():
        state = number(asked, name, command)
        values |= {key: "on" if state else "off"} if state is not None else {}
    flags = number(asked, name, _GFLAGS)
    values |= {"lro": "on" if flags & _FLAG_LRO else "off"} if flags is not None else {}
    return values


def write_link(asked: socket.socket, name: str, values: Mapping[str, str]) -> bool:
    """Changes what of LINK_KEYS is there, in one request; whether the driver took it."""
    fields = _settings(asked, name)
    if fields is None:
        return False
    for key, value in values.items():
        if key == "speed":
            fields[_SPEED], fields[_SPEED_HIGH] = int(value) & 0xFFFF, int(value) >> 16
        elif key == "duplex":
            fields[_DUPLEX] = _DUPLEXES[value]
        elif key == "autoneg":
            fields[_AUTONEG] = _SWITCH[value]
        else:
            fields[_ADVERTISING] = int(value, 16)
    fields[0] = _SSET
    return ask(asked, name, _SETTINGS.pack(*fields)) is not None


def write_offload(asked: socket.socket, name: str, key: str, value: str) -> bool:
    """Changes one of OFFLOAD_KEYS; whether the driver took it."""
    if key != "lro":
        return ask(asked, name, struct.pack("II", _OFFLOADS[key][1], _SWITCH[value])) is not None
    flags = number(asked, name, _GFLAGS)
    if flags is None:
        return False
    wanted = flags | _FLAG_LRO if _SWITCH[value] else flags & ~_FLAG_LRO
    return ask(asked, name, struct.pack("II", _SFLAGS, wanted)) is not None


def _settings(asked: socket.socket, name: str) -> list[int] | None:
    answer = ask(asked, name, struct.pack("=I40x", _GSET))
    return None if answer is None else list(_SETTINGS.unpack(answer))


def _speed(fields: list[int]) -> int:
    speed = fields[_SPEED_HIGH] << 16 | fields[_SPEED]
    return 0 if speed in _SPEED_UNKNOWN else speed
