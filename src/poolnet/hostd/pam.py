"""Does the system accept this user and password? The host daemon asks PAM for the API server, which is no root."""

from __future__ import annotations

import asyncio

import pamela

from poolnet.hostnet.protocol import Authenticated


async def authenticate(user: str, password: str, service: str) -> Authenticated:
    """Asks a service of PAM (a file of `/etc/pam.d`) in a thread of its own, because it waits after a wrong password. Nothing of it is logged."""
    return await asyncio.to_thread(_authenticate, user, password, service)


def _authenticate(user: str, password: str, service: str) -> Authenticated:
    if not user or "\0" in user or "\0" in password:
        return Authenticated(accepted=False, reason="no such user")
    try:
        pamela.authenticate(user, password, service=service, resetcred=0)
        pamela.check_account(user, service=service)
    except pamela.PAMError as error:
        return Authenticated(accepted=False, reason=str(error))
    return Authenticated(accepted=True)
