"""How do the hosts of a pool prove to each other who they are? A CA of the pool, and a certificate for each host's uuid.

The CA is made when the first host joins. Its key goes to every member, over connections that it has certified, so that
any of them can take the coordinator's place. A certificate alone opens nothing: whoever presents it must be a host of
the pool at this moment, which the database says.
"""

from __future__ import annotations

import datetime as dt
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from poolnet.pool.membership import POOL_DIRECTORY, write_durably

VALID_DAYS: Final = (
    3650  # nobody renews it while the pool lives; a host that leaves is refused by the database
)
BACKDATED: Final = dt.timedelta(days=1)  # hosts' clocks differ
CSR_BYTES_MAX: Final = 16 * 1024
_URN: Final = "urn:uuid:"


class BadRequest(ValueError):
    """A certificate was asked for in a way that cannot be granted; the text says why."""


@dataclass(frozen=True, slots=True)
class PoolFiles:
    """Where a host keeps what it proves itself with."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The certificate of the pool's CA."""
        return self.directory / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The CA's key."""
        return self.directory / "ca.key"

    @property
    def certificate(self) -> Path:
        """This host's certificate."""
        return self.directory / "host.crt"

    @property
    def key(self) -> Path:
        """This host's key, which never leaves it."""
        return self.directory / "host.key"

    @property
    def secret(self) -> Path:
        """The pool secret."""
        return self.directory / "secret"

    def complete(self) -> bool:
        """Whether this host can speak to others of its pool."""
        return self.ca.is_file() and self.certificate.is_file() and self.key.is_file()


def pool_files(state_dir: Path) -> PoolFiles:
    """The files of a state directory."""
    return PoolFiles(state_dir / POOL_DIRECTORY)


def make_pool(files: PoolFiles, pool_uuid: str, host_uuid: str, now: dt.datetime) -> None:
    """Makes the CA of a pool, the certificate of this host, and the secret. Raises OSError."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"poolnet pool {pool_uuid}")])
    ca = (
        _builder(name, name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    write_durably(files.ca_key, _pem_of_key(ca_key))
    write_durably(files.secret, secrets.token_urlsafe(48).encode())
    write_durably(files.key, _pem_of_key(key))
    write_durably(files.ca, _pem(ca))
    certificate = _certify(ca, ca_key, key.public_key(), host_uuid, now)
    write_durably(files.certificate, _pem(certificate))  # last: with it the set is complete


def rotate_secret(files: PoolFiles) -> None:
    """Makes another pool secret. Raises OSError."""
    write_durably(files.secret, secrets.token_urlsafe(48).encode())


def request_certificate(files: PoolFiles, host_uuid: str) -> str:
    """Makes a key for this host and what asks for its certificate, PEM. Raises OSError."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_durably(files.key, _pem_of_key(key))
    request = x509.CertificateSigningRequestBuilder().subject_name(_name_of(host_uuid))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def grant_certificate(files: PoolFiles, request: str, host_uuid: str, now: dt.datetime) -> str:
    """The certificate that a joining host gets, PEM: for that uuid, whatever else the request says.

    Raises:
        BadRequest: It is no request, or not signed by its own key.
        OSError: The CA's files cannot be read.
    """
    if len(request) > CSR_BYTES_MAX:
        raise BadRequest("the request is too long")
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        valid, public = asked.is_signature_valid, asked.public_key()
    except (ValueError, TypeError, InvalidSignature) as error:
        raise BadRequest("no certificate signing request") from error
    if not valid or not isinstance(public, ec.EllipticCurvePublicKey):
        raise BadRequest("the request is not signed by a key of its own")
    ca, ca_key = _authority(files)
    return _pem(_certify(ca, ca_key, public, host_uuid, now)).decode()


def renew_certificate(files: PoolFiles, host_uuid: str, now: dt.datetime) -> None:
    """Makes a host's key and certificate anew with the CA's key, which every host of the pool has. Raises OSError."""
    ca, ca_key = _authority(files)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certify(ca, ca_key, key.public_key(), host_uuid, now)
    both = files.directory / "host.new"
    write_durably(both, _pem_of_key(key) + _pem(certificate))
    finish_renewal(files)


def finish_renewal(files: PoolFiles) -> None:
    """Puts a renewed key and certificate in their places, also after a crash that came in between. Raises OSError."""
    both = files.directory / "host.new"
    try:
        content = both.read_bytes()
    except FileNotFoundError:
        return
    start = content.index(b"-----BEGIN CERTIFICATE-----")
    write_durably(files.key, content[:start])
    write_durably(files.certificate, content[start:])
    both.unlink()


def server_context(files: PoolFiles) -> ssl.SSLContext:
    """The context of the door between hosts: nobody without a certificate of the pool. Raises ssl.SSLError, OSError."""
    return _context(ssl.PROTOCOL_TLS_SERVER, files)


def client_context(files: PoolFiles) -> ssl.SSLContext:
    """The context of connections to other hosts. Raises ssl.SSLError, OSError."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def peer_uuid(ssl_object: Any) -> str:
    """The uuid that the other side's certificate is bound to; "" if it names none."""
    certificate = ssl_object.getpeercert() if ssl_object is not None else None
    for kind, value in (certificate or {}).get("subjectAltName", ()):
        if kind == "URI" and str(value).startswith(_URN):
            return str(value).removeprefix(_URN)
    return ""


def _authority(files: PoolFiles) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The pool's CA. Raises OSError."""
    ca_key = serialization.load_pem_private_key(files.ca_key.read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey), "make_pool made it"  # noqa: S101 - for the type checker; nothing from outside is asserted
    return x509.load_pem_x509_certificate(files.ca.read_bytes()), ca_key


def _context(protocol: int, files: PoolFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # addresses change; certificates are bound to uuids instead
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.key)
    return context


def _certify(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    public: ec.EllipticCurvePublicKey,
    host_uuid: str,
    now: dt.datetime,
) -> x509.Certificate:
    return (
        _builder(_name_of(host_uuid), ca.subject, public, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{_URN}{UUID(host_uuid)}")]),
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


def _name_of(host_uuid: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_uuid)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
