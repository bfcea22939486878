"""How does a NIC treat its virtual functions? Asked of the kernel and told to it by netlink, one setting at a time.

One at a time because drivers can do some and not others, and what a message asks for besides would not be known.
Numbers: <linux/if_link.h>, <linux/rtnetlink.h>.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

from poolnet.hostd import netlink_codec as codec
from poolnet.hostd.netlink import LinkError

_VFINFO_LIST: Final = 22  # IFLA_VFINFO_LIST
_VF_INFO: Final = 1
_MAC, _VLAN, _TX_RATE, _SPOOFCHK, _LINK_STATE, _RATE, _TRUST = 1, 2, 3, 4, 5, 6, 9  # IFLA_VF_…
_EXT_MASK_FUNCTIONS: Final = 1 | 8  # RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS
_AUTO, _DISABLE = 0, 2  # IFLA_VF_LINK_STATE_…
_ERROR: Final = 2  # NLMSG_ERROR
_MAC_BYTES: Final = 6
_LINK_BODY: Final = 16  # struct ifinfomsg
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_REASON: Final = 1  # NLMSGERR_ATTR_MSG
NO_MAC: Final = "00:00:00:00:00:00"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """How a NIC treats one function. The rate is in Mbit/s, 0 for none."""

    mac: str = NO_MAC
    vlan_tag: int = 0
    rate_mbits_per_s: int = 0
    spoof_checked: bool = False
    connected: bool = True
    trusted: bool = False


class FunctionsLink:
    """The functions of NICs in this network namespace, by the function's number."""

    def read(self, nic: str) -> Mapping[int, Treatment]:
        """How each function of a NIC is treated. Raises LinkError."""
        mask = codec.attribute(codec.Ifla.EXT_MASK, codec.u32(_EXT_MASK_FUNCTIONS))
        body = codec.link_body(_index_of(nic), 0, 0, mask)
        answer = _ask(nic, codec.RTM_GETLINK, 0, body, lambda kind, found: found if kind != _ERROR else b"")
        found = dict(codec.attributes_in(answer, _LINK_BODY)).get(_VFINFO_LIST, b"")
        infos = (
            dict(codec.attributes_in(info)) for kind, info in codec.attributes_in(found) if kind == _VF_INFO
        )
        return {struct.unpack_from("=I", info[_MAC])[0]: _treatment(info) for info in infos if _MAC in info}

    def set_mac(self, nic: str, number: int, mac: str) -> None:
        """Gives a function its MAC. Raises LinkError."""
        self._set(nic, _MAC, struct.pack("=I32s", number, codec.mac_bytes(mac)))

    def set_vlan(self, nic: str, number: int, tag: int) -> None:
        """Lets the NIC tag what a function sends; 0 for no tag. Raises LinkError."""
        self._set(nic, _VLAN, struct.pack("=III", number, tag, 0))

    def set_rate(self, nic: str, number: int, mbits_per_s: int) -> None:
        """Limits what a function sends; 0 for no limit. Raises LinkError."""
        self._set(nic, _TX_RATE, struct.pack("=II", number, mbits_per_s))

    def set_spoof_check(self, nic: str, number: int, *, on: bool) -> None:
        """Lets the NIC drop a function's frames from other MACs. Raises LinkError."""
        self._set(nic, _SPOOFCHK, struct.pack("=II", number, on))

    def set_trust(self, nic: str, number: int, *, on: bool) -> None:
        """Lets a function change its MAC and hear everything. Raises LinkError."""
        self._set(nic, _TRUST, struct.pack("=II", number, on))

    def set_connected(self, nic: str, number: int, *, connected: bool) -> None:
        """Lets a function's link follow the NIC's, or be down. Raises LinkError."""
        self._set(nic, _LINK_STATE, struct.pack("=II", number, _AUTO if connected else _DISABLE))

    def _set(self, nic: str, kind: int, content: bytes) -> None:
        info = codec.nested(_VF_INFO, [(kind, content)])
        functions = codec.attribute(_VFINFO_LIST | 0x8000, info)
        body = codec.link_body(_index_of(nic), 0, 0, functions)
        _ask(nic, codec.RTM_NEWLINK, codec.NLM_F_ACK, body, lambda _, __: b"")


def _treatment(info: Mapping[int, bytes]) -> Treatment:
    rate = _second(info.get(_TX_RATE))
    if _RATE in info:
        rate = struct.unpack_from("=III", info[_RATE])[2]
    return Treatment(
        mac=info[_MAC][4 : 4 + _MAC_BYTES].hex(":"),
        vlan_tag=_second(info.get(_VLAN)),
        rate_mbits_per_s=rate,
        spoof_checked=_second(info.get(_SPOOFCHK)) == 1,
        connected=_second(info.get(_LINK_STATE)) != _DISABLE,
        trusted=_second(info.get(_TRUST)) == 1,
    )


def _second(content: bytes | None) -> int:
    """The second number of a setting; the first is the function's."""
    return 0 if content is None or len(content) < 8 else int(struct.unpack_from("=II", content)[1])


def _index_of(nic: str) -> int:
    try:
        return socket.if_nametoindex(nic)
    except OSError as error:
        raise LinkError(f"there is no {nic}") from error


_NUMBERS = count(1)


def _ask(nic: str, kind: int, flags: int, body: bytes, wanted: Callable[[int, bytes], T]) -> T:
    """Sends a message and gives what is wanted of its answer. Raises LinkError when the kernel refuses."""
    number = next(_NUMBERS)
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as asked:
        for option in (_CAP_ACK, _EXT_ACK):
            asked.setsockopt(_SOL_NETLINK, option, 1)
        asked.send(codec.message(kind, flags, number, body))
        while True:
            for answer, _, about, content in codec.messages_in(asked.recv(1 << 18)):
                if about != number:
                    continue
                code = -int.from_bytes(content[:4], "little", signed=True) if answer == _ERROR else 0
                if code:
                    raise LinkError(f"{nic}: {_reason(content) or os.strerror(code)}")
                return wanted(answer, content)


def _reason(content: bytes) -> str:
    """What the kernel says of its refusal besides its number, after that and the header of what was asked."""
    found = dict(codec.attributes_in(content, 20)).get(_REASON, b"")
    return found.rstrip(b"\0").decode(errors="replace")
