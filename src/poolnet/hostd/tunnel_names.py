"""What are the ports called that lead to a tunnel's other ends? Both backends ask."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

NAME_LENGTH_MAX: Final = 15
_DIGEST_LENGTH: Final = 6


def port_to(device: str, remote: str) -> str:
    """The name of the port of the tunnel `device` that leads to the address `remote`: `tunnel0-1c9f3a`."""
    digest = sha256(f"{device} {remote}".encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{device[: NAME_LENGTH_MAX - _DIGEST_LENGTH - 1]}-{digest}"
