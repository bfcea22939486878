"""Each cell of the table of operations names tests, which are there and run where the cell says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.kernel import suite
from tests.operations.table import PAGE, POOL_ROWS, ROWS, Backend, PoolRow, Row, Where, render

REPOSITORY = Path(__file__).resolve().parents[2]
SUITES = {Backend.NETDEV: "openvswitch", Backend.KERNEL: "openvswitch", Backend.LINUX: "linuxbridge"}


@cache
def collected(backend: str, words: Sequence[str]) -> frozenset[str]:
    """The ids of the tests of a lane, below `tests/`, as pytest collects them."""
    command = (sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "lab and not kernel", *words)
    environment = {**os.environ, "POOLNET_LAB_BACKEND": backend}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return frozenset(line.removeprefix("tests/") for line in done.stdout.splitlines() if "::" in line)


def run_at(backend: Backend, where: Where) -> frozenset[str]:
    """The tests that `make test` runs for a cell of that column and place."""
    if where is Where.HERE:
        return collected("openvswitch", ("tests/lab",))
    if where is Where.DEBIAN:
        return collected(SUITES[backend], suite.DEBIAN)
    name = SUITES[backend]
    return collected(name, tuple(suite.MODULES[name]))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.operation)
def test_each_backend_has_tests_that_run_where_the_table_says(row: Row) -> None:
    cells = row.cells
    assert set(cells) == set(Backend)
    for backend, cell in cells.items():
        assert cell.tests, backend
        missing = set(cell.tests) - run_at(backend, cell.where)
        assert not missing, f"{backend.value}, {cell.where.value}"


@pytest.mark.parametrize("row", POOL_ROWS, ids=lambda row: row.operation)
def test_what_is_the_pools_has_tests_that_run_here(row: PoolRow) -> None:
    assert row.tests
    assert not set(row.tests) - run_at(Backend.NETDEV, Where.HERE)


def test_no_operation_stands_there_twice() -> None:
    operations = [row.operation for row in ROWS] + [row.operation for row in POOL_ROWS]
    assert len(operations) == len(set(operations))


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m tests.operations.table"
