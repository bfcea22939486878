"""Which fields do PCI devices, features and certificates show on the command line?"""

from __future__ import annotations

from typing import cast

from poolnet.xe.caller import Record
from poolnet.xe.fields.declare import Shape, column, computed, table
from poolnet.xe.records import Reader
from poolnet.xe.texts import Texts


async def _dependencies(reader: Reader, ref: str, record: Record) -> Texts:
    dependencies = cast("tuple[str, ...]", record["dependencies"])
    return tuple([await reader.text("PCI", dependency, "pci_id") for dependency in dependencies])


PCI = table(
    "pci",
    "PCI",
    shown="uuid vendor-name device-name pci-id",
    columns=(
        column("uuid"),
        column("vendor-name"),
        column("device-name"),
        column("driver-name"),
        column("host-uuid", "host"),
        column("host-name-label", "host", by_name=True),
        column("pci-id"),
        computed("dependencies", _dependencies, shape=Shape.SET),
        column("other-config"),
    ),
)

FEATURE = table(
    "feature",
    "Feature",
    shown="uuid name-label name-description enabled experimental version host-uuid",
    columns=(
        column("uuid"),
        column("name-label"),
        column("name-description"),
        column("enabled"),
        column("experimental"),
        column("version"),
        column("host-uuid", "host"),
    ),
)

CERTIFICATE = table(
    "certificate",
    "Certificate",
    shown="uuid type name host not-before not-after fingerprint purpose",
    columns=(
        column("uuid"),
        column("type"),
        column("name"),
        column("host"),
        column("not-before"),
        column("not-after"),
        column("fingerprint"),
        column("fingerprint_sha256"),
        column("fingerprint_sha1"),
        column("purpose", plain=True),
    ),
)
