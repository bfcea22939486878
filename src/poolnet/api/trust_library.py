"""How do the certificates and revocation lists that somebody installs change? Whole, with their records, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import uuid4

from cryptography import x509

from poolnet.api.certificate_checks import TEXT_MAX, fingerprints, require_valid_at
from poolnet.db.txn import Txn
from poolnet.model import errors
from poolnet.model.classes.certificate import Certificate
from poolnet.model.enums import CertificatePurpose, CertificateType
from poolnet.model.failure import Failure
from poolnet.model.types import NULL, Ref
from poolnet.pool import trusted
from poolnet.pool.authority import MALFORMED, PoolFiles
from poolnet.pool.coordinator import Coordinator
from poolnet.pool.trusted import Trusted, TrustedBroken

INSTALLED_MAX: Final = 100  # of each kind


class TrustLibrary:
    """What is installed in the pool, and its records.

    Args:
        coordinator: Who writes the records.
        files: Where what is installed is kept.
        changed: Called when something else is trusted. It may raise OSError.
    """

    def __init__(self, coordinator: Coordinator, files: PoolFiles, changed: Callable[[], None]) -> None:
        self.files = files
        self.lock = asyncio.Lock()
        """Held from `load` to `change`."""
        self._coordinator = coordinator
        self._changed = changed

    def load(self) -> Trusted:
        """What is installed. Raises CERTIFICATE_LIBRARY_CORRUPT."""
        try:
            return trusted.load(self.files)
        except TrustedBroken as error:
            raise Failure("CERTIFICATE_LIBRARY_CORRUPT") from error

    async def change(
        self, old: Trusted, new: Trusted, record: Callable[[Txn], None] = lambda _: None
    ) -> None:
        """Keeps something else, and records it; if that fails, it is as before. Raises Failure."""
        try:
            await asyncio.to_thread(trusted.save, self.files, new)
        except OSError as error:
            raise errors.internal_error(f"the certificates: {error.strerror}") from error
        try:
            await self._coordinator.write(record)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(trusted.save, self.files, old))
            raise
        self.use()

    def use(self) -> None:
        """Lets what is installed now count. Raises INTERNAL_ERROR."""
        try:
            self._changed()
        except OSError as error:
            raise errors.internal_error(f"the certificates: {error}") from error


def read_certificate(text: str) -> x509.Certificate:
    """A certificate (PEM). Raises ValueError, or one of the others of `MALFORMED`."""
    if len(text) > TEXT_MAX:
        raise ValueError("too long for a certificate")
    certificate = x509.load_pem_x509_certificate(text.encode())
    _ = certificate.public_key(), certificate.subject, certificate.issuer  # read when they are asked for
    return certificate


def valid_certificate(text: str, now: datetime, kind: str) -> x509.Certificate:
    """A certificate that is valid now. Raises `kind`_INVALID, `kind`_NOT_VALID_YET, `kind`_EXPIRED."""
    try:
        certificate = read_certificate(text)
    except MALFORMED as error:
        raise Failure(f"{kind}_INVALID") from error
    require_valid_at(now, certificate, kind)
    return certificate


def record(
    txn: Txn,
    certificate: x509.Certificate,
    *,
    name: str = "",
    uuid: str = "",
    type_: CertificateType = CertificateType.CA,
    purpose: Sequence[CertificatePurpose] = (),
) -> Ref[Certificate]:
    """Makes the record of a certificate; of a CA with that name, it takes the place of the one that there was."""
    if name:
        forget(txn, name)
    sha256, sha1 = fingerprints(certificate)
    ref: Ref[Certificate] = Ref(f"OpaqueRef:{uuid4()}")
    txn.create(
        Certificate(
            ref=ref,
            uuid=uuid or str(uuid4()),
            name=name,
            type=type_,
            host=NULL,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            fingerprint=sha256,
            fingerprint_sha256=sha256,
            fingerprint_sha1=sha1,
            purpose=tuple(purpose),
        )
    )
    return ref


def forget(txn: Txn, name: str) -> None:
    """Removes the record of the CA of that name."""
    for row in txn.where(Certificate, name=name):
        if row.type is CertificateType.CA:
            txn.destroy(Certificate, row.ref)
