"""The lab that the procedures of the manual share, and a check at the end of the session that nothing of it is left."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab.conftest import nothing_left_behind
from tests.lab.running import RunningLab, running_lab
from tests.manual.console import Console

__all__ = ["nothing_left_behind"]


@pytest.fixture(scope="package")
def lab() -> Iterator[RunningLab]:
    """One host with four NICs. Each test leaves it as it found it."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    with running_lab(hosts=1, nics=4) as one:
        yield one


@pytest.fixture
def console(lab: RunningLab) -> Console:
    """The host's text console."""
    return Console(lab)


@pytest.fixture
def bond_network(console: Console) -> Iterator[str]:
    """A network for a bond, made as the manual says; network and bond are gone afterwards."""
    uuid = console.type("xe network-create name-label=bond0")
    yield uuid
    for bond in console.xe("bond-list", "params=uuid", "--minimal").split(","):
        if bond:
            console.xe("bond-destroy", f"uuid={bond}")
    console.xe("network-destroy", f"uuid={uuid}")
