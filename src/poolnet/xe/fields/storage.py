"""Which fields do storage repositories and their connections show on the command line?"""

from __future__ import annotations

from typing import cast

from poolnet.xe.caller import Record
from poolnet.xe.fields.declare import column, computed, table
from poolnet.xe.records import Reader
from poolnet.xe.texts import NOT_IN_DATABASE, Texts


async def _host(reader: Reader, ref: str, record: Record) -> Texts:
    connections = cast("tuple[str, ...]", record["PBDs"])
    if len(connections) > 1:
        return "<shared>"
    connection = await reader.record("PBD", connections[0]) if connections else None
    return (
        NOT_IN_DATABASE
        if connection is None
        else await reader.text("host", str(connection["host"]), "name_label")
    )


SR = table(
    "sr",
    "SR",
    shown="uuid name-label name-description host type content-type",
    columns=(
        column("uuid"),
        column("name-label"),
        column("name-description"),
        computed("host", _host),
        column("allowed-operations"),
        column("current-operations"),
        column("VDIs"),
        column("PBDs"),
        column("virtual-allocation", fixed=True),
        column("physical-utilisation", fixed=True),
        column("physical-size", fixed=True),
        column("type"),
        column("content-type"),
        column("shared"),
        column("introduced-by"),
        column("is-tools-sr"),
        column("other-config"),
        column("sm-config", fixed=True),
        column("blobs"),
        column("local-cache-enabled"),
        column("tags", comma=True),
        column("clustered"),
    ),
)

PBD = table(
    "pbd",
    "PBD",
    shown="uuid host-uuid sr-uuid device-config currently-attached",
    columns=(
        column("uuid"),
        column("host", deprecated=True),
        column("host-uuid", "host"),
        column("host-name-label", "host", by_name=True),
        column("sr-uuid", "SR"),
        column("sr-name-label", "SR", by_name=True),
        column("device-config"),
        column("currently-attached"),
        column("other-config"),
    ),
)
