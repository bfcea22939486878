"""Which certificates of CAs and which revocation lists has somebody installed in the pool, and is a certificate revoked?

The coordinator keeps them in one file, beside what hosts prove themselves with, and its members get it as it is. The door
between hosts and the logins with certificates ask; a revocation list counts if it is signed by a CA that counts there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from poolnet.pool.authority import MALFORMED, PoolFiles, authorities
from poolnet.pool.membership import write_durably

log = structlog.get_logger("poolnet.pool.trusted")


class TrustedCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate that is trusted for these purposes, or, a CA's, for everything if there are none.

    Attributes:
        pem: The certificate.
        ca: Whether it is that of a CA, whose signature counts, or the one that a server has itself.
        purpose: The purposes, as the API calls them.
    """

    pem: str
    ca: bool
    purpose: tuple[str, ...] = ()


class Trusted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is installed: the PEM texts of CAs and revocation lists by name, certificates with purposes by uuid."""

    authorities: dict[str, str] = {}
    revoked: dict[str, str] = {}
    certificates: dict[str, TrustedCertificate] = {}


class TrustedBroken(Exception):
    """The file cannot be read; the text says why."""


def load(files: PoolFiles) -> Trusted:
    """What is installed. Raises TrustedBroken."""
    try:
        content = files.trusted.read_bytes()
        return msgspec.json.decode(content, type=Trusted)
    except FileNotFoundError:
        return Trusted()
    except (OSError, msgspec.MsgspecError) as error:
        raise TrustedBroken(f"{files.trusted}: {error}") from error


def save(files: PoolFiles, trusted: Trusted) -> None:
    """Keeps what is installed, durably. Raises OSError."""
    write_durably(files.trusted, msgspec.json.encode(trusted))


def packed(files: PoolFiles) -> bytes:
    """The file as it is sent to members; nothing for none."""
    try:
        return files.trusted.read_bytes()
    except OSError:
        return b""


def take_over(files: PoolFiles, content: bytes) -> None:
    """Keeps what the coordinator has; nonsense is nothing. Raises OSError."""
    if not content or content == packed(files):
        return
    try:
        msgspec.json.decode(content, type=Trusted)
    except msgspec.MsgspecError as error:
        log.error("trusted-not-taken-over", reason=str(error))  # noqa: TRY400 - the reason says it all
        return
    write_durably(files.trusted, content)


def digest(files: PoolFiles) -> str:
    """A hash of what is installed, by which hosts compare it."""
    return hashlib.sha256(packed(files)).hexdigest()


def is_revoked(files: PoolFiles, certificate: bytes, issuers: Iterable[x509.Certificate]) -> bool:
    """Whether a list that one of these CAs has signed names a certificate (DER).

    Lists count also after the time at which the next one was due: what is revoked stays so.
    """
    lists = _lists(files)
    if not lists:
        return False
    asked = x509.load_der_x509_certificate(certificate)
    named = [
        each
        for each in lists
        if each.issuer == asked.issuer
        and each.get_revoked_certificate_by_serial_number(asked.serial_number) is not None
    ]
    return any(_signed(each, issuers) for each in named)


def refused_at_door(files: PoolFiles, ssl_object: Any) -> bool:
    """Whether the other side of a connection between hosts shows a certificate that is revoked."""
    if not _lists(files):
        return False
    shown: bytes | None = ssl_object.getpeercert(binary_form=True) if ssl_object is not None else None
    try:
        return shown is not None and is_revoked(files, shown, authorities(files))
    except (OSError, *MALFORMED) as error:
        log.error("revocation-not-checked", reason=str(error))  # noqa: TRY400 - the reason says it all
        return True


def _signed(revoked: x509.CertificateRevocationList, issuers: Iterable[x509.Certificate]) -> bool:
    for issuer in issuers:
        try:
            if issuer.subject == revoked.issuer and revoked.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]  # other keys raise
                return True
        except (InvalidSignature, *MALFORMED):
            continue
    return False


def _lists(files: PoolFiles) -> Sequence[x509.CertificateRevocationList]:
    """The revocation lists, parsed once for each state of the file."""
    try:
        found = files.trusted.stat()
    except OSError:
        return ()
    return _parsed(files, (found.st_ino, found.st_mtime_ns, found.st_size))


@lru_cache(maxsize=4)
def _parsed(files: PoolFiles, _state: tuple[int, int, int]) -> Sequence[x509.CertificateRevocationList]:
    try:
        texts = load(files).revoked.values()
        return tuple(x509.load_pem_x509_crl(text.encode()) for text in texts)
    except (TrustedBroken, *MALFORMED) as error:
        log.error("revocation-lists-broken", reason=str(error))  # noqa: TRY400 - the reason says it all
        return ()
