"""Tells systemd that the server serves (sd_notify), if systemd asked to be told."""

from __future__ import annotations

import os
import socket


def notify_ready() -> None:
    """Sends READY=1 to the socket that NOTIFY_SOCKET names; nothing to do without it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
        notifying.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        notifying.send(b"READY=1")
