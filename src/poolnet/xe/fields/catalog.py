"""Which classes does the command line have tables for? The generic commands, selectors and event-wait look here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.xe.fields import hardware, host, network, people, pool, storage, vm
from poolnet.xe.fields.declare import Table

TABLES: Final[Mapping[str, Table]] = {
    table.name: table
    for table in (
        pool.POOL,
        host.HOST,
        network.NETWORK,
        network.PIF,
        network.BOND,
        network.VLAN,
        network.TUNNEL,
        network.NETWORK_SRIOV,
        network.VIF,
        vm.VM,
        vm.TEMPLATE,
        vm.SNAPSHOT,
        storage.SR,
        storage.PBD,
        people.TASK,
        people.ROLE,
        people.SUBJECT,
        people.MESSAGE,
        people.SECRET,
        hardware.PCI,
        hardware.FEATURE,
        hardware.CERTIFICATE,
    )
}
"""Every table by its name on the command line."""
