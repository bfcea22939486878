"""Does the system accept this user and password? The host daemon asks PAM for the API server, which is no root."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pamela

from poolnet.hostnet.protocol import Authenticated

_SERVICES = (Path("/etc/pam.d"), Path("/usr/lib/pam.d"))
"""Where a service must have its file: without one PAM takes `other`, which lets everybody in who has an account."""


async def authenticate(user: str, password: str, service: str) -> Authenticated:
    """Asks a service of PAM (a file of `/etc/pam.d`). Nothing of it is logged.

    In a thread of its own, because PAM waits after a wrong password.
    """
    return await asyncio.to_thread(_authenticate, user, password, service)


def _authenticate(user: str, password: str, service: str) -> Authenticated:
    if not user or "\0" in user or "\0" in password:
        return Authenticated(accepted=False, reason="no such user")
    if not any((directory / service).is_file() for directory in _SERVICES):
        return Authenticated(accepted=False, reason=f"there is no service {service}")
    try:
        pamela.authenticate(user, password, service=service, resetcred=0)
        pamela.check_account(user, service=service)
    except pamela.PAMError as error:
        return Authenticated(accepted=False, reason=str(error))
    return Authenticated(accepted=True)
