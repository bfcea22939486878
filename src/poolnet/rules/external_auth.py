"""May users of a directory log in? Switched on and off for the pool, or for one host. See spec §3.2.

There is one type, PAM: the users and groups that the hosts' systems know, be it from files or from LDAP. A host has nothing
to join, so enabling it only says that it is so.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext

PAM: Final = "PAM"
_NO_CONFIG: Final[Mapping[str, str]] = MappingProxyType({})


def uses_directory(view: View) -> bool:
    """Whether users of the directory may log in; the hosts of a pool agree about it."""
    return any(host.external_auth_type == PAM for host in view.all(Host))


def enable_in_pool(
    ctx: CallContext, *, pool: Ref[Pool], config: Mapping[str, str], service_name: str, auth_type: str
) -> None:
    """Lets users of the directory log in, on all hosts.

    Raises:
        POOL_AUTH_ALREADY_ENABLED: They may on one of the hosts.
        AUTH_UNKNOWN_TYPE: It is not PAM.
    """
    ctx.txn.get(Pool, pool)
    for host in ctx.txn.all(Host):
        if host.external_auth_type:
            raise errors.pool_auth_already_enabled(host.ref)
    _require_type(auth_type)
    for ref in tuple(ctx.txn.refs(Host)):
        _set(ctx, ref, auth_type, service_name, config)


def disable_in_pool(ctx: CallContext, *, pool: Ref[Pool], config: Mapping[str, str] = _NO_CONFIG) -> None:
    """Ends that on all hosts. The subjects stay, for when it is enabled again; `config` is for directories to leave."""
    ctx.txn.get(Pool, pool)
    for ref in tuple(ctx.txn.refs(Host)):
        _set(ctx, ref, "", "", {})


def enable_on_host(
    ctx: CallContext, *, host: Ref[Host], config: Mapping[str, str], service_name: str, auth_type: str
) -> None:
    """Lets users of the directory log in, on one host.

    Raises:
        AUTH_ALREADY_ENABLED: They may.
        AUTH_UNKNOWN_TYPE: It is not PAM.
    """
    row = ctx.txn.get(Host, host)
    if row.external_auth_type:
        raise errors.auth_already_enabled(row.external_auth_type, row.external_auth_service_name)
    _require_type(auth_type)
    _set(ctx, host, auth_type, service_name, config)


def disable_on_host(
    ctx: CallContext, *, host: Ref[Host], config: Mapping[str, str] = _NO_CONFIG, force: bool = False
) -> None:
    """Ends that on one host; nothing to do where it is off."""
    ctx.txn.get(Host, host)
    _set(ctx, host, "", "", {})


def _require_type(auth_type: str) -> None:
    if auth_type != PAM:
        raise errors.auth_unknown_type(auth_type)


def _set(
    ctx: CallContext, host: Ref[Host], auth_type: str, service_name: str, config: Mapping[str, str]
) -> None:
    ctx.txn.update(
        Host,
        host,
        external_auth_type=auth_type,
        external_auth_service_name=service_name,
        external_auth_configuration=config,
    )
