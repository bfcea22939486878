"""Which errors can a call end with? Functions named after the codes: `raise errors.mac_invalid(mac)`.

`errors_auth`, `errors_call`, `errors_network`, `errors_guest`, `errors_storage` and `errors_pool` declare them; this module has them all.
`ERRORS` has every documented code, with a description for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.model.error_codes_guests import GUEST_CODES
from poolnet.model.error_codes_hosts import HOST_CODES
from poolnet.model.errors_auth import *  # noqa: F403 - one name for all errors
from poolnet.model.errors_call import *  # noqa: F403 - one name for all errors
from poolnet.model.errors_guest import *  # noqa: F403 - one name for all errors
from poolnet.model.errors_network import *  # noqa: F403 - one name for all errors
from poolnet.model.errors_pool import *  # noqa: F403 - one name for all errors
from poolnet.model.errors_storage import *  # noqa: F403 - one name for all errors
from poolnet.model.failure import DOCUMENTED, UNDOCUMENTED, ErrorDecl
from poolnet.model.failure import Failure as Failure

UNDOCUMENTED_ERRORS: Final = frozenset(
    {
        "BALLOONING_DISABLED",
        "CA_CERTIFICATE_EXPIRED",
        "CA_CERTIFICATE_INVALID",
        "CA_CERTIFICATE_NOT_VALID_YET",
        "CERT_REFRESH_IN_PROGRESS",
        "CLIENT_ERROR",
        "CLUSTER_HAS_NO_CERTIFICATE",
        "CREATEREPO_FAILED",
        "DESIGNATE_NEW_MASTER_IN_PROGRESS",
        "EXTENSION_PROTOCOL_FAILURE",
        "GET_UPDATES_IN_PROGRESS",
        "HOSTS_FAILED_TO_DISABLE_CACHING",
        "HOSTS_FAILED_TO_ENABLE_CACHING",
        "HOST_CANNOT_SEE_SR",
        "NO_LOCAL_STORAGE",
        "POOL_SECRET_ROTATION_PENDING",
        "REVERT_ONLY_ALLOWED_ON_SNAPSHOT",
        "SR_ATTACHED",
        "SR_NOT_SHARED",
        "SUSPEND_VDI_REPLACEMENT_IS_NOT_IDENTICAL",
        "TLS_VERIFICATION_ENABLE_IN_PROGRESS",
        "VBD_MISSING",
        "VDI_CONTENT_ID_MISSING",
        "VDI_IO_ERROR",
        "VDI_IS_SHARABLE",
        "VM_IS_SNAPSHOT",
        "VM_MEMORY_TARGET_WAIT_TIMEOUT",
        "VM_SNAPSHOT_FAILED",
    }
).union(UNDOCUMENTED)
"""The codes that can be sent, but have neither parameters nor a description in the API's documentation."""

_WORDS_IN_CAPITALS: Final = frozenset(
    [
        "BIOS",
        "CA",
        "CBT",
        "CD",
        "CDS",
        "CPU",
        "CRL",
        "CRLS",
        "FIPS",
        "GPG",
        "GPU",
        "HA",
        "HVM",
        "ID",
        "IO",
        "IOMMU",
        "IP",
        "ISO",
        "LDAPS",
        "MAC",
        "NIC",
        "NTP",
        "NVIDIA",
        "OEM",
        "OU",
        "PBD",
        "PBDS",
        "PCI",
        "PCPUS",
        "PGPU",
        "PGPUS",
        "PIF",
        "PUSB",
        "PUSBS",
        "PV",
        "PVS",
        "RRDS",
        "RSA",
        "SM",
        "SR",
        "SSH",
        "SSL",
        "TLS",
        "URL",
        "USB",
        "UUID",
        "VBD",
        "VCPU",
        "VCPUS",
        "VDI",
        "VGPU",
        "VIF",
        "VLAN",
        "VM",
        "VMPP",
        "VMS",
        "VMSS",
        "VSS",
        "VTPM",
        "VUSB",
        "VUSBS",
        "WLB",
        "XHA",
        "XML",
    ]
)


def _sentence(code: str) -> str:
    """Makes a sentence of a code that nobody has described: VM_HAS_CHECKPOINT is "VM has checkpoint."."""
    words = " ".join(word if word in _WORDS_IN_CAPITALS else word.lower() for word in code.split("_"))
    return f"{words[0].upper()}{words[1:]}."


ERRORS: Final[Mapping[str, ErrorDecl]] = {
    code: ErrorDecl(code=code, params=params, description=_sentence(code))
    for code, params in {**GUEST_CODES, **HOST_CODES}.items()
} | DOCUMENTED
"""Every documented code with the names of its parameters, as people read them, and a description."""
