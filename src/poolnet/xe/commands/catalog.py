"""Which commands are there? All of them by name; `run` looks here, and so does help."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Final

from poolnet.xe.commands import (
    audit,
    cluster,
    drift,
    hosts,
    locks,
    networks,
    people,
    placement,
    plugins,
    pools,
    storage,
    tasks,
    unserved,
    vifs,
    vms,
)
from poolnet.xe.commands.command import Command
from poolnet.xe.commands.generic import generic_commands

COMMANDS: Final[Mapping[str, Command]] = {
    command.name: command
    for command in chain(
        generic_commands(),
        networks.COMMANDS,
        vifs.COMMANDS,
        locks.COMMANDS,
        vms.COMMANDS,
        placement.COMMANDS,
        hosts.COMMANDS,
        cluster.COMMANDS,
        drift.COMMANDS,
        pools.COMMANDS,
        storage.COMMANDS,
        people.COMMANDS,
        tasks.COMMANDS,
        audit.COMMANDS,
        plugins.COMMANDS,
        unserved.COMMANDS,
    )
}
"""Every command by its name; `help` is none of them (spec xe-cli §1 step 6)."""
