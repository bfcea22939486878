"""Whose signature makes a host one of the pool? Each coordinator has a CA of its own, whose key never leaves it.

All hosts trust the CAs in `ca.crt`: that of the coordinator, and, for a while, those of the ones before. A host that becomes
coordinator makes its own; when every host trusts it, each gets a certificate of it, and when every host has one, the others
are trusted no more (`renewal` does that). So nothing that a former coordinator, or a host that left, has kept opens a door.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from poolnet.pool.membership import write_durably

VALID_DAYS: Final = 3650
BACKDATED: Final = dt.timedelta(days=1)  # hosts' clocks differ
URN: Final = "urn:uuid:"

MALFORMED: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
"""What `cryptography` raises for certificates, requests and lists of others that are none."""

Authority: TypeAlias = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


@dataclass(frozen=True, slots=True)
class PoolFiles:
    """Where a host keeps what it proves itself with."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The certificates of the CAs whose signature counts."""
        return self.directory / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The key of this host's own CA; only a coordinator has one."""
        return self.directory / "ca.key"

    @property
    def issued(self) -> Path:
        """The uuids of the hosts that have a certificate of this host's own CA."""
        return self.directory / "issued"

    @property
    def certificate(self) -> Path:
        """This host's certificate."""
        return self.directory / "host.crt"

    @property
    def key(self) -> Path:
        """This host's key, which never leaves it."""
        return self.directory / "host.key"

    @property
    def pair(self) -> Path:
        """The key and the certificate in one file, which changes whole (see `pki.finish_renewal`)."""
        return self.directory / "host.pem"

    @property
    def renewed(self) -> Path:
        """A key and a certificate that are on their way to their places."""
        return self.directory / "host.new"

    @property
    def next_key(self) -> Path:
        """The key of a certificate that is asked for."""
        return self.directory / "next.key"

    @property
    def secret(self) -> Path:
        """The pool secret."""
        return self.directory / "secret"

    @property
    def trusted(self) -> Path:
        """The CA certificates and revocation lists that somebody has installed (see `trusted`)."""
        return self.directory / "trusted.json"

    @property
    def unverified(self) -> Path:
        """Is there while this host is not to check certificates."""
        return self.directory / "unverified"

    def complete(self) -> bool:
        """Whether this host can speak to others of its pool."""
        return self.ca.is_file() and self.certificate.is_file() and self.key.is_file()


def authorities(files: PoolFiles) -> Sequence[x509.Certificate]:
    """The CAs whose signature counts. Raises OSError, ValueError."""
    return x509.load_pem_x509_certificates(files.ca.read_bytes())


def own_authority(files: PoolFiles) -> Authority:
    """This host's own CA. Raises OSError if it has none."""
    try:
        key = serialization.load_pem_private_key(files.ca_key.read_bytes(), None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return next(ca for ca in authorities(files) if ca.public_key() == key.public_key()), key
    except (ValueError, TypeError, StopIteration) as error:
        raise FileNotFoundError(f"{files.ca_key} is of no CA in {files.ca}") from error
    raise FileNotFoundError(f"{files.ca_key} is no key of ours")


def has_authority(files: PoolFiles) -> bool:
    """Whether this host has a CA of its own."""
    try:
        own_authority(files)
    except OSError:
        return False
    return True


def begin_authority(files: PoolFiles, pool_uuid: str, now: dt.datetime) -> None:
    """Makes a CA of this host's own, besides those that are trusted already. Raises OSError."""
    ca, key = new_authority(pool_uuid, now)
    before = files.ca.read_bytes() if files.ca.is_file() else b""
    write_durably(files.ca_key, pem_of_key(key))
    write_durably(files.issued, b"")
    write_durably(files.ca, before + pem_of(ca))


def note_issued(files: PoolFiles, host_uuid: str) -> None:
    """Writes down that a host gets a certificate of this host's own CA. Raises OSError."""
    known = issued(files)
    if host_uuid not in known:
        write_durably(files.issued, "\n".join(sorted({*known, host_uuid})).encode())


def issued(files: PoolFiles) -> frozenset[str]:
    """The hosts that have a certificate of this host's own CA, as far as that was written down."""
    try:
        return frozenset(files.issued.read_text().split())
    except OSError:
        return frozenset()


def trust(files: PoolFiles, content: bytes) -> bool:
    """Takes over which CAs count; whether that is another set than before. Raises OSError, or ValueError for no CAs."""
    if files.ca.read_bytes() == content:
        return False
    x509.load_pem_x509_certificates(content)
    write_durably(files.ca, content)
    return True


def trust_own_alone(files: PoolFiles) -> None:
    """Lets no signature count but that of this host's own CA. Raises OSError."""
    write_durably(files.ca, pem_of(own_authority(files)[0]))


def has_issued(files: PoolFiles, pem: str) -> bool:
    """Whether a certificate is one of this host's own CA. Raises OSError."""
    ca, _ = own_authority(files)
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except MALFORMED:
        return False
    return is_issued_by(certificate, ca)


def is_issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Whether a certificate is signed by that CA."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (*MALFORMED, InvalidSignature):
        return False
    return True


def new_authority(pool_uuid: str, now: dt.datetime) -> Authority:
    """A CA for a pool; its name is no other CA's, for that is how a signature's CA is found."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"poolnet pool {pool_uuid} {secrets.token_hex(4)}")]
    )
    ca = (
        _builder(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return ca, key


def certify(
    authority: Authority, public: ec.EllipticCurvePublicKey, host_uuid: str, now: dt.datetime
) -> x509.Certificate:
    """A certificate that binds a key to the uuid of a host."""
    ca, ca_key = authority
    return (
        _builder(name_of(host_uuid), ca.subject, public, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{URN}{UUID(host_uuid)}")]),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
    )


def name_of(host_uuid: str) -> x509.Name:
    """The name in a host's certificate."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_uuid)])


def pem_of(certificate: x509.Certificate) -> bytes:
    """A certificate, PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key, PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
