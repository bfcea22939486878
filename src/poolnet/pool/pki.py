"""How do the hosts of a pool prove to each other who they are? A certificate for each host's uuid, of a CA of the pool.

A certificate alone opens nothing: whoever presents it must be a host of the pool at this moment, which the database says.
Which CAs count is in `authority`.
"""

from __future__ import annotations

import datetime as dt
import secrets
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from poolnet.pool.authority import (
    MALFORMED,
    URN,
    PoolFiles,
    certify,
    name_of,
    new_authority,
    note_issued,
    own_authority,
    pem_of,
    pem_of_key,
)
from poolnet.pool.membership import POOL_DIRECTORY, write_durably

CSR_BYTES_MAX: Final = 16 * 1024
NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)  # <openssl/x509_vfy.h>: X509_V_FLAG_NO_CHECK_TIME


class BadRequest(ValueError):
    """A certificate was asked for in a way that cannot be granted; the text says why."""


def pool_files(state_dir: Path) -> PoolFiles:
    """The files of a state directory."""
    return PoolFiles(state_dir / POOL_DIRECTORY)


def make_pool(files: PoolFiles, pool_uuid: str, host_uuid: str, now: dt.datetime) -> None:
    """Makes the first CA of a pool, the certificate of this host, and the secret. Raises OSError."""
    ca, ca_key = new_authority(pool_uuid, now)
    key = ec.generate_private_key(ec.SECP256R1())
    write_durably(files.ca_key, pem_of_key(ca_key))
    write_durably(files.secret, secrets.token_urlsafe(48).encode())
    write_durably(files.key, pem_of_key(key))
    write_durably(files.ca, pem_of(ca))
    certificate = certify((ca, ca_key), key.public_key(), host_uuid, now)
    write_durably(files.certificate, pem_of(certificate))  # last: with it the set is complete


def rotate_secret(files: PoolFiles) -> None:
    """Makes another pool secret. Raises OSError."""
    write_durably(files.secret, secrets.token_urlsafe(48).encode())


def request_certificate(files: PoolFiles, host_uuid: str) -> str:
    """Makes a key for this host and what asks for its certificate, PEM. Raises OSError."""
    return _request(files.key, host_uuid)


def request_renewal(files: PoolFiles, host_uuid: str) -> str:
    """Makes another key for this host and what asks for its certificate, PEM; `adopt` has them used. Raises OSError."""
    return _request(files.next_key, host_uuid)


def _request(path: Path, host_uuid: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    write_durably(path, pem_of_key(key))
    request = x509.CertificateSigningRequestBuilder().subject_name(name_of(host_uuid))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def adopt(files: PoolFiles, certificate: str) -> None:
    """Uses the certificate that was asked for last, and its key.

    Raises:
        BadRequest: It is for another key.
        OSError: It cannot be written.
    """
    try:
        key = serialization.load_pem_private_key(files.next_key.read_bytes(), None)
        granted = x509.load_pem_x509_certificate(certificate.encode())
    except (*MALFORMED, FileNotFoundError) as error:
        raise BadRequest("no certificate that was asked for") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or granted.public_key() != key.public_key():
        raise BadRequest("the certificate is for another key")
    _renew(files, key, granted)
    files.next_key.unlink(missing_ok=True)


def grant_certificate(files: PoolFiles, request: str, host_uuid: str, now: dt.datetime) -> str:
    """The certificate that a host gets of this host's own CA, PEM: for that uuid, whatever else the request says.

    Raises:
        BadRequest: It is no request, or not signed by its own key.
        OSError: This host has no CA of its own, or its files cannot be read.
    """
    if len(request) > CSR_BYTES_MAX:
        raise BadRequest("the request is too long")
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        valid, public = asked.is_signature_valid, asked.public_key()
    except (*MALFORMED, InvalidSignature) as error:
        raise BadRequest("no certificate signing request") from error
    if not valid or not isinstance(public, ec.EllipticCurvePublicKey):
        raise BadRequest("the request is not signed by a key of its own")
    certificate = certify(own_authority(files), public, host_uuid, now)
    note_issued(files, host_uuid)
    return pem_of(certificate).decode()


def renew_certificate(files: PoolFiles, host_uuid: str, now: dt.datetime) -> None:
    """Makes this host's key and certificate anew with its own CA. Raises OSError."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certify(own_authority(files), key.public_key(), host_uuid, now)
    _renew(files, key, certificate)


def _renew(files: PoolFiles, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """Uses another key and certificate from now on. Raises OSError."""
    write_durably(files.renewed, pem_of_key(key) + pem_of(certificate))
    finish_renewal(files)


def finish_renewal(files: PoolFiles) -> None:
    """Puts a renewed key and certificate in their places, also after a crash that came in between. Raises OSError.

    The server of the database reads them from one file: of two it would find one changed and the other not yet, remember
    that, and never load either.
    """
    with suppress(FileNotFoundError):
        content = files.renewed.read_bytes()
        start = content.index(b"-----BEGIN CERTIFICATE-----")
        write_durably(files.key, content[:start])
        write_durably(files.certificate, content[start:])
        files.renewed.unlink()
    if files.complete():
        pair = files.key.read_bytes() + files.certificate.read_bytes()
        if not files.pair.is_file() or files.pair.read_bytes() != pair:
            write_durably(files.pair, pair)


def server_context(files: PoolFiles) -> ssl.SSLContext:
    """The context of the door between hosts: nobody without a certificate of the pool. Raises ssl.SSLError, OSError.

    That is who may come in, not only whom to believe, so it is so on a host that checks no certificates, too; but there one
    that has ended, or not yet begun, will do.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    if not verifies(files):
        context.verify_flags |= NO_CHECK_TIME
    return context


def client_context(files: PoolFiles) -> ssl.SSLContext:
    """The context of connections to other hosts, which checks them unless this host is not to. Raises ssl.SSLError, OSError."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files)
    if not verifies(files):
        context.verify_mode = ssl.CERT_NONE
    return context


def peer_uuid(ssl_object: Any) -> str:
    """The uuid that the other side's certificate is bound to; "" if it names none."""
    certificate = ssl_object.getpeercert() if ssl_object is not None else None
    for kind, value in (certificate or {}).get("subjectAltName", ()):
        if kind == "URI" and str(value).startswith(URN):
            return str(value).removeprefix(URN)
    return ""


def verifies(files: PoolFiles) -> bool:
    """Whether this host checks certificates, as it should but in an emergency."""
    return not files.unverified.exists()


def set_verifying(files: PoolFiles, *, verifying: bool) -> None:
    """Has this host check certificates, or not, from the next connection on. Raises OSError."""
    if verifying:
        files.unverified.unlink(missing_ok=True)
    else:
        write_durably(files.unverified, b"")


def _context(protocol: int, files: PoolFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # addresses change; certificates are bound to uuids instead
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.key)
    return context
