"""Which certificates are there? The class Certificate of the XenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, static
from poolnet.model.roles import Role
from poolnet.model.types import EPOCH, NULL, Row

if TYPE_CHECKING:
    from datetime import datetime

    from poolnet.model.classes.host import Host
    from poolnet.model.enums import CertificatePurpose, CertificateType
    from poolnet.model.types import Ref


@api_class("Certificate", events=True, role=Role.READ_ONLY, since="stockholm")
class Certificate(Row):
    """A certificate that a host has or trusts."""

    uuid: str = dynamic(
        default=NO_DEFAULT, since="stockholm", doc="The name that it keeps for life, in all pools."
    )
    name: str = dynamic(default="", since="1.294.0", doc="The name of its file, for one that was installed.")
    type: CertificateType = dynamic(default="host", since="1.294.0", doc="What it certifies.")
    host: Ref[Host] = static(default=NULL, since="stockholm", doc="The host whose certificate it is.")
    not_before: datetime = static(default=EPOCH, since="stockholm", doc="From when it is valid.")
    not_after: datetime = static(default=EPOCH, since="stockholm", doc="Until when it is valid.")
    fingerprint: str = static(
        default="",
        since="stockholm",
        state="deprecated",
        deprecated_since="24.19.0",
        doc="The hash of it (use fingerprint_sha256).",
    )
    fingerprint_sha256: str = static(
        default="", since="24.20.0", state="prototyped", doc="The SHA-256 hash of it."
    )
    fingerprint_sha1: str = static(
        default="", since="24.20.0", state="prototyped", doc="The SHA-1 hash of it."
    )
    purpose: tuple[CertificatePurpose, ...] = static(
        default=(), since="26.13.0", state="prototyped", doc="What it is trusted for; empty for everything."
    )
