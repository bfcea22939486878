"""Which guests are behind another cable now, and how does the physical network hear of it?

`apply` asks after bridges, uplinks or guest ports have changed places; `announce` has the backend send the frames. A switch
out there keeps to the port from which it heard a MAC address last, for minutes, and the guest may have nothing to say. Its
MAC is announced by RARP, as hypervisors do after a migration: nobody answers it.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Iterator, Mapping

import structlog

from poolnet.hostnet.state import GuestPort, HostNetwork, LockMode, PortLock
from poolnet.hostnet.steps import AddPort, CreateBridge, MovePort, RemovePort, ReplaceUplink, Step

LOG = structlog.stdlib.get_logger("poolnet.hostd.moved_guests")
_BROADCAST, _NO_IP = b"\xff" * 6, bytes(4)
_RARP, _VLAN = 0x8035, 0x8100
_REVERSE_REQUEST = bytes.fromhex(
    "0001080006040003"
)  # Ethernet, IPv4, the lengths of their addresses, the operation
_FRAME_BYTES_MIN = 60
_TRUNKS_MAX = 64  # of one port: whoever trunks more speaks for himself


def moved(steps: Iterable[Step], now: HostNetwork, *, again: bool = False) -> tuple[str, ...]:
    """The devices of the guest ports that are behind another cable after these steps led to `now`.

    A guest whose port is added announces itself when it starts; that of a port that was removed and added again runs on, and
    so do all of them when the steps went back to an earlier state (`again`).
    """
    cables: set[str] = set()
    replugged: set[str] = set()
    removed: set[str] = set()
    fresh: set[str] = set()
    for step in steps:
        match step:
            case CreateBridge(bridge=bridge):
                cables.add(bridge.name)
            case ReplaceUplink(name=name):
                cables.add(name)
            case RemovePort(port=port):
                removed.add(port.device)
            case MovePort(new=port):
                replugged.add(port.device)
            case AddPort(port=port):
                (replugged if again or port.device in removed else fresh).add(port.device)
            case _:
                pass
    cables |= {bridge.name for bridge in now.bridges if bridge.parent in cables}
    return tuple(
        port.device
        for port in _heard(now)
        if (port.device in replugged or (port.bridge in cables and port.device not in fresh))
    )


def outwards(now: HostNetwork, vm_uuid: str) -> tuple[str, ...]:
    """The devices of a guest's ports from which something out there can be told where the guest is."""
    return tuple(port.device for port in _heard(now) if port.vm_uuid == vm_uuid)


def _heard(now: HostNetwork) -> Iterator[GuestPort]:
    """The ports that may send, on bridges that lead somewhere."""
    bridges = {bridge.name for bridge in now.bridges if bridge.uplink is not None or bridge.parent}
    return (port for port in now.ports if port.bridge in bridges and port.lock.mode is not LockMode.DISABLED)


def frames_of(lock: PortLock, tag: int = 0) -> tuple[bytes, ...]:
    """The frames that a guest would announce its MAC with: one, with its VLAN's tag, or one for each VLAN of a trunk."""
    try:
        mac = bytes.fromhex(lock.mac.replace(":", ""))
    except ValueError:
        return ()
    tags = lock.trunks[:_TRUNKS_MAX] if lock.trunks and tag <= 0 else (max(0, tag),)
    return tuple(_frame(mac, one) for one in tags)


def frames_by_uplink(now: HostNetwork, devices: Collection[str]) -> Mapping[str, tuple[bytes, ...]]:
    """The frames that announce these guests, by the uplink that they belong on."""
    by_uplink: dict[str, list[bytes]] = {}
    for port in now.ports:
        bridge = now.bridge(port.bridge) if port.device in devices else None
        if bridge is None:
            continue
        below = now.bridge(bridge.parent) if bridge.parent else bridge
        if below is not None and below.uplink is not None:
            by_uplink.setdefault(below.uplink.device, []).extend(frames_of(port.lock, bridge.vlan_tag))
    return {uplink: tuple(frames) for uplink, frames in by_uplink.items()}


def send(device: str, frames: Iterable[bytes]) -> None:
    """Sends frames from an interface. What one that is gone or down cannot send is logged."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
            out.bind((device, 0))
            for frame in frames:
                out.send(frame)
    except OSError as error:
        LOG.warning("guests were not announced", device=device, error=str(error))


def _frame(mac: bytes, tag: int) -> bytes:
    vlan = _VLAN.to_bytes(2) + tag.to_bytes(2) if tag else b""
    body = _REVERSE_REQUEST + 2 * (mac + _NO_IP)
    return (_BROADCAST + mac + vlan + _RARP.to_bytes(2) + body).ljust(_FRAME_BYTES_MIN, b"\0")
