"""What is a Certificate? The class of the XenAPI; the registry collects it."""

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
    """The API class Certificate."""

    uuid: str = dynamic(default=NO_DEFAULT, since="stockholm", doc="")
    name: str = dynamic(default="", since="1.294.0", doc="")
    type: CertificateType = dynamic(default="host", since="1.294.0", doc="")
    host: Ref[Host] = static(default=NULL, since="stockholm", doc="")
    not_before: datetime = static(default=EPOCH, since="stockholm", doc="")
    not_after: datetime = static(default=EPOCH, since="stockholm", doc="")
    fingerprint: str = static(
        default="", since="stockholm", state="deprecated", deprecated_since="24.19.0", doc=""
    )
    fingerprint_sha256: str = static(default="", since="24.20.0", state="prototyped", doc="")
    fingerprint_sha1: str = static(default="", since="24.20.0", state="prototyped", doc="")
    purpose: tuple[CertificatePurpose, ...] = static(default=(), since="26.13.0", state="prototyped", doc="")
