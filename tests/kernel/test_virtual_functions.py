"""A NIC with virtual functions on Debian's own kernel: on, given to guests, off, and there again after a boot."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.kernel import machine
from tests.kernel.netdevsim_kernel import netdevsim

LIMIT_S = 300.0  # of one machine, on a busy processor
pytestmark = [pytest.mark.kernel, pytest.mark.timeout(2 * LIMIT_S + 180)]

MODULE = "tests/kernel/virtual_functions.py"
BOOTS = ("test_two_guests_get_functions_and_give_them_back", "test_functions_are_there_again_after_a_boot")


def test_virtual_functions_on_debians_kernel_and_again_after_a_boot(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "the kernel lane needs root"
    kernel = netdevsim()
    kept: Path | None = None
    for number, test in enumerate(BOOTS):
        directory = tmp_path / str(number)
        directory.mkdir()
        here = directory / "kept"
        if kept is not None:
            kept.rename(here)
        words = (sys.executable, "-m", "pytest", "-v", "-m", "lab", f"{MODULE}::{test}")
        plugins = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
        environment = {"POOLNET_TEST_KEPT": str(here), "POOLNET_LAB_PATIENCE": "5"}
        done = machine.run((*words, *plugins), environment, directory, limit_s=LIMIT_S, kernel=kernel)
        assert done.code == 0, done.console
        assert "1 passed" in done.console, done.console
        kept = here
