"""May a certificate and its key be a host's own? The checks of `host.install_server_certificate`, in the reference's order.

RSA keys only, because the genuine `xe` speaks nothing else (see `tls`). Pure: the time is given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from poolnet.model.failure import Failure
from poolnet.pool.authority import MALFORMED

RSA_BITS_MIN: Final = 2048
RSA_BITS_MAX: Final = 4096
TEXT_MAX: Final = 32 * 1024  # of each of the three texts; a chain of ten has half of that
CHAIN_MAX: Final = 10
_OIDS: Final = (
    (ec.EllipticCurvePrivateKey, "1.2.840.10045.2.1"),
    (ed25519.Ed25519PrivateKey, "1.3.101.112"),
    (ed448.Ed448PrivateKey, "1.3.101.113"),
)
_KEY: Final = re.compile(r"-----BEGIN (?:RSA )?PRIVATE KEY-----")


def checked(certificate: str, private_key: str, chain: str, now: datetime) -> bytes:
    """One PEM text of the key, the certificate and its chain, ready to be served.

    Raises:
        SERVER_CERTIFICATE_KEY_INVALID, SERVER_CERTIFICATE_KEY_ALGORITHM_NOT_SUPPORTED,
        SERVER_CERTIFICATE_KEY_RSA_LENGTH_NOT_SUPPORTED: About the key.
        SERVER_CERTIFICATE_INVALID, SERVER_CERTIFICATE_NOT_VALID_YET, SERVER_CERTIFICATE_EXPIRED,
        SERVER_CERTIFICATE_KEY_MISMATCH, SERVER_CERTIFICATE_SIGNATURE_NOT_SUPPORTED: About the certificate.
        SERVER_CERTIFICATE_CHAIN_INVALID: The chain is none, or not that of the certificate.
    """
    key = _key(private_key)
    leaf = _leaf(certificate, key, now)
    others = _chain(chain, leaf) if chain.strip() else ()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = [each.public_bytes(serialization.Encoding.PEM) for each in (leaf, *others)]
    return b"".join([secret, *public])


def _key(text: str) -> rsa.RSAPrivateKey:
    if len(text) > TEXT_MAX:
        raise Failure("SERVER_CERTIFICATE_KEY_INVALID")
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Failure("SERVER_CERTIFICATE_KEY_INVALID") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        oid = next((oid for kind, oid in _OIDS if isinstance(key, kind)), "")
        raise Failure("SERVER_CERTIFICATE_KEY_ALGORITHM_NOT_SUPPORTED", oid)
    if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        raise Failure("SERVER_CERTIFICATE_KEY_RSA_LENGTH_NOT_SUPPORTED", str(key.key_size))
    return key


def _leaf(text: str, key: rsa.RSAPrivateKey, now: datetime) -> x509.Certificate:
    try:
        (leaf,) = _certificates(text)
        public = leaf.public_key()
    except MALFORMED as error:
        raise Failure("SERVER_CERTIFICATE_INVALID") from error
    require_valid_at(now, leaf, "SERVER_CERTIFICATE")
    if public != key.public_key():
        raise Failure("SERVER_CERTIFICATE_KEY_MISMATCH")
    if not isinstance(leaf.signature_hash_algorithm, hashes.SHA256 | hashes.SHA512):
        raise Failure("SERVER_CERTIFICATE_SIGNATURE_NOT_SUPPORTED")
    return leaf


def _chain(text: str, leaf: x509.Certificate) -> Sequence[x509.Certificate]:
    try:
        chain = _certificates(text)
        for below, above in zip((leaf, *chain), chain, strict=False):
            below.verify_directly_issued_by(above)
    except (*MALFORMED, InvalidSignature) as error:
        raise Failure("SERVER_CERTIFICATE_CHAIN_INVALID") from error
    if len(chain) > CHAIN_MAX:
        raise Failure("SERVER_CERTIFICATE_CHAIN_INVALID")
    return chain


def _certificates(text: str) -> Sequence[x509.Certificate]:
    """The certificates of a text. Raises ValueError for one without, and for one with a key."""
    if len(text) > TEXT_MAX or _KEY.search(text):
        raise ValueError("no certificates")
    return x509.load_pem_x509_certificates(text.encode())


def require_valid_at(now: datetime, certificate: x509.Certificate, kind: str) -> None:
    """Raises the error of this kind of certificate, `kind`_NOT_VALID_YET or `kind`_EXPIRED, if it is not valid now."""
    if now < certificate.not_valid_before_utc:
        raise Failure(f"{kind}_NOT_VALID_YET", stamp(now), stamp(certificate.not_valid_before_utc))
    if now > certificate.not_valid_after_utc:
        raise Failure(f"{kind}_EXPIRED", stamp(now), stamp(certificate.not_valid_after_utc))


def stamp(time: datetime) -> str:
    """A time as the parameters of these errors have it."""
    return time.strftime("%Y%m%dT%H:%M:%SZ")


def fingerprints(certificate: x509.Certificate) -> tuple[str, str]:
    """The SHA-256 and the SHA-1 hash of a certificate, as records have them."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    sha1 = hashlib.sha1(der, usedforsecurity=False)
    return hashlib.sha256(der).digest().hex(":").upper(), sha1.digest().hex(":").upper()
