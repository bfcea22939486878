"""What does a joining host give the pool of what it trusts? Its CA certificates, trusted certificates and revocation lists.

The pool's own it gets as any member. If the host does not come after all, the pool is asked to forget what it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, Final

from poolnet.api.certificate_checks import fingerprints
from poolnet.api.pool_client import PoolClient
from poolnet.api.trust_library import read_certificate
from poolnet.model import errors
from poolnet.model.failure import Failure
from poolnet.pool.trusted import Trusted
from poolnet.rules.join import Target

CA: Final = "ca"


class TrustGiven:
    """What a host has given a pool.

    Args:
        pool: The pool.
        target: What it was before.
    """

    def __init__(self, pool: PoolClient, target: Target) -> None:
        self._pool = pool
        self._target = target
        self._authorities: tuple[str, ...] = ()
        self._lists: tuple[str, ...] = ()
        self._fingerprints: set[str] = set()

    async def give(self, own: Trusted) -> None:
        """Gives the pool what this host trusts and the pool does not yet. Raises Failure: what the pool answers."""
        if own == Trusted():
            return
        pool = await self._ref()
        known = {each.name for each in self._target.certificates if each.type == CA}
        authorities = {name: pem for name, pem in own.authorities.items() if name not in known}
        if authorities:
            self._authorities = tuple(authorities)
            await self._pool.call("pool.exchange_ca_certificates_on_join", authorities, [])
        for each in own.certificates.values():
            self._fingerprints.add(fingerprints(read_certificate(each.pem))[0])
            given = {each.pem: list(each.purpose)}
            await self._pool.call("pool.exchange_trusted_certificates_on_join", pool, each.ca, given, [])
        if own.revoked:
            there = await self._pool.call("pool.crl_list")
            self._lists = tuple(name for name in own.revoked if name not in there)
            await self._pool.call("pool.exchange_crls_on_join", pool, own.revoked, [])

    async def take_back(self) -> None:
        """Has the pool forget it again, as far as it can be told to."""
        with suppress(Failure):
            for name in self._authorities:
                await self._pool.call("pool.uninstall_ca_certificate", name, True)
            for name in self._lists:
                with suppress(Failure):  # it may not have come so far
                    await self._pool.call("pool.crl_uninstall", name)
            if self._fingerprints:
                before = {each.ref for each in self._target.certificates}
                records = await self._pool.call("Certificate.get_all_records")
                pool = await self._ref()
                for ref in _trusted(records, self._fingerprints) - before:
                    await self._pool.call("pool.uninstall_trusted_certificate", pool, ref)

    async def _ref(self) -> str:
        answer = await self._pool.call("pool.get_all")
        if not isinstance(answer, list) or not answer:
            raise errors.joining_host_service_failed()
        return str(answer[0])


def _trusted(records: Any, fingerprints_: AbstractSet[str]) -> set[str]:
    """Those of the records that are trusted certificates with these fingerprints."""
    if not isinstance(records, Mapping):
        return set()
    return {
        str(ref)
        for ref, row in records.items()
        if isinstance(row, Mapping)
        and row.get("type") in (CA, "pinned")
        and not row.get("name")
        and row.get("fingerprint_sha256") in fingerprints_
    }
