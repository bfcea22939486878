"""How does the API server prove who it is, and to clients of which age? `http` and the server's start ask.

Two self-signed certificates are made at the first start and kept: one with an EC key for today's clients, and one with
an RSA key, because the genuine `xe` speaks TLS 1.2 with ECDHE-RSA-AES256-GCM-SHA384 on the curve P-384 and nothing
else (xe-cli §11.1). OpenSSL picks the one that the client can check.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

RSA_BITS: Final = 2048
VALID_DAYS: Final = 3650  # clients pin it, or do not look; nobody renews it for them
BACKDATED: Final = dt.timedelta(days=1)  # for clients whose clock is a little behind
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # TLS 1.2 only; 1.3 has its own, all good
_COMMON_NAME_CHARS_MAX: Final = 64  # X.520

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Identity:
    """The files of one certificate: its chain and its key, PEM."""

    certificate: Path
    key: Path

    def complete(self) -> bool:
        """Whether both files are there."""
        return self.certificate.is_file() and self.key.is_file()


@dataclass(frozen=True, slots=True)
class Identities:
    """The two certificates of a server."""

    ec: Identity
    rsa: Identity


def identities_in(directory: Path) -> Identities:
    """Says where the certificates of a state directory are."""
    return Identities(
        ec=Identity(directory / "ec.crt", directory / "ec.key"),
        rsa=Identity(directory / "rsa.crt", directory / "rsa.key"),
    )


def ensure_identities(
    directory: Path, *, names: Sequence[str], addresses: Sequence[str], now: dt.datetime
) -> Identities:
    """Makes the certificates that are not there yet, for these host names and addresses; keeps those that are.

    The directory is made with mode 0700, keys have mode 0600.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    identities = identities_in(directory)
    if not identities.rsa.complete():
        key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        _write_identity(identities.rsa, key, names=names, addresses=addresses, now=now)
    if not identities.ec.complete():
        ec_key = ec.generate_private_key(ec.SECP256R1())
        _write_identity(identities.ec, ec_key, names=names, addresses=addresses, now=now)
    return identities


def server_context(identities: Identities) -> ssl.SSLContext:
    """Makes the context that the server's TLS listener uses.

    Raises:
        ssl.SSLError: a file is no certificate or key, or a key is not its certificate's.
        OSError: a file cannot be read.
    """
    context = _context()
    for identity in (identities.rsa, identities.ec):
        context.load_cert_chain(identity.certificate, identity.key)
    return context


def installed_context(path: Path) -> ssl.SSLContext:
    """Makes the context for a certificate that was installed: key, certificate and chain are in one file.

    Raises:
        ssl.SSLError: it is no certificate with its key.
        OSError: the file cannot be read.
    """
    context = _context()
    context.load_cert_chain(path)
    return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _write_identity(
    identity: Identity,
    key: PrivateKey,
    *,
    names: Sequence[str],
    addresses: Sequence[str],
    now: dt.datetime,
) -> None:
    """Writes a key, then its certificate: a start that died in between makes both anew."""
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate = _self_signed(key, names=names, addresses=addresses, now=now)
    _replace(identity.key, secret, mode=0o600)
    _replace(identity.certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _self_signed(
    key: PrivateKey, *, names: Sequence[str], addresses: Sequence[str], now: dt.datetime
) -> x509.Certificate:
    common_name = (names[0] if names else "poolnet")[:_COMMON_NAME_CHARS_MAX]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256())


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    """Writes a file so that it is there whole or not at all, and never readable by others in between."""
    partial = path.with_name(f"{path.name}.new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
