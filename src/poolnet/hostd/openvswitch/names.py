"""Under which names does the switch hold what belongs to a bridge?

Interface names have at most 15 characters. A name that is too long to be extended is cut and gets a part of its hash.
"""

from __future__ import annotations

from hashlib import sha256

NAME_LENGTH_MAX = 15
_HASH_LENGTH = 4


def guests_bridge(bridge: str) -> str:
    """The secure bridge that has the guest ports of a bridge with an uplink: `xenbr0v`."""
    return _extended(bridge, "v")


def patch_ports(bridge: str) -> tuple[str, str]:
    """The two ends of the patch between a bridge (first) and its guests' bridge (second)."""
    return _extended(bridge, "p0"), _extended(bridge, "p1")


def _extended(name: str, suffix: str) -> str:
    room = NAME_LENGTH_MAX - len(suffix)
    if len(name) <= room:
        return name + suffix
    digest = sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{name[: room - _HASH_LENGTH - 1]}-{digest}{suffix}"
