"""What is the port of a VIF, and what may its guest do? `derive` asks for the VIFs that have one."""

from __future__ import annotations

from typing import Final, NamedTuple

from poolnet.hostnet.mtu import port_mtu
from poolnet.hostnet.state import VLAN_TAG_MAX, GuestPort, LockMode, PortLock
from poolnet.hostnet.written import is_number, plain_prefixes
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.enums import NetworkDefaultLockingMode, VifLockingMode

QOS_TIMESLICE_US: Final = 50000  # spec §15.10
QOS_BYTES_MAX: Final = 2**32 - 2
SHADOW_KEY: Final = "lock-shadow"  # of a VIF: its lock counts what it would stop, and stops nothing


class PortSources(NamedTuple):
    """All that a VIF's port is made from; of its network and its VM what counts."""

    vif: VIF
    bridge: str
    network_uuid: str
    mtu_bytes: int
    mode: LockMode
    device: str
    vm_uuid: str


def effective_mode(vif: VIF, network: Network | None) -> LockMode:
    """What a VIF may do: its own mode, or its network's default (spec §15.8)."""
    if vif.locking_mode is not VifLockingMode.NETWORK_DEFAULT:
        return LockMode(vif.locking_mode.value)
    if network is not None and network.default_locking_mode is NetworkDefaultLockingMode.DISABLED:
        return LockMode.DISABLED
    return LockMode.UNLOCKED


def vif_device(domid: int, device: str) -> str:
    """The name of a VIF's host end; `device` is the VIF's device number as text."""
    return f"vif{domid}.{int(device)}"


def port_sources(vif: VIF, network: Network, mode: LockMode, device: str, vm_uuid: str) -> PortSources:
    """What a VIF's port is made from."""
    return PortSources(vif, network.bridge, network.uuid, port_mtu(vif, network), mode, device, vm_uuid)


def port_of(sources: PortSources) -> GuestPort:
    """The port of a VIF that may do something."""
    return GuestPort(
        device=sources.device,
        bridge=sources.bridge,
        lock=_lock(sources.vif, sources.mode),
        mtu_bytes=sources.mtu_bytes,
        rate_kbytes_per_s=rate_of(sources.vif),
        vif_uuid=sources.vif.uuid,
        vm_uuid=sources.vm_uuid,
        network_uuid=sources.network_uuid,
    )


def _lock(vif: VIF, mode: LockMode) -> PortLock:
    locked = mode is LockMode.LOCKED
    return PortLock(
        mode=mode,
        mac=vif.MAC.lower(),
        ipv4_allowed=plain_prefixes(vif.ipv4_allowed) if locked else (),
        ipv6_allowed=plain_prefixes(vif.ipv6_allowed) if locked else (),
        trunks=tuple(sorted({tag for tag in vif.trunks if 0 <= tag <= VLAN_TAG_MAX})),
        shadow=locked and vif.other_config.get(SHADOW_KEY) == "true",
    )


def rate_of(vif: VIF) -> int:
    """The rate in kilobytes per second; 0 for none, another algorithm, or parameters out of range (spec §15.10)."""
    params = vif.qos_algorithm_params
    if vif.qos_algorithm_type != "ratelimit" or not is_number(params.get("kbps", "")):
        return 0
    timeslice = params.get("timeslice_us", str(QOS_TIMESLICE_US))
    if not is_number(timeslice):
        return 0
    kbytes = int(params["kbps"])
    return kbytes if 1 <= kbytes * 1024 * int(timeslice) // 1000000 <= QOS_BYTES_MAX else 0
