"""What needs Debian's own kernel: a NIC with virtual functions (on, given to guests, off, there again after a boot), and
the filter of the NBD port above Open vSwitch's datapath in the kernel.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.kernel import machine, suite
from tests.kernel.debian_kernel import emulated

LIMIT_S = 1200.0  # of one machine: about 400 s, and more where others want the processor too
pytestmark = [pytest.mark.kernel, pytest.mark.timeout(2 * LIMIT_S + 180)]

IGB = "tests/kernel/igb_functions.py::test_"
BOOTS = (
    (f"{IGB}guests_speak_through_functions_and_give_them_back",),
    (
        f"{IGB}functions_are_there_again_after_a_boot",
        "tests/kernel/netdevsim_functions.py::test_a_function_whose_link_is_down_and_one_whose_rate_is_refused",
        *suite.DEBIAN,
    ),
)


def test_virtual_functions_on_debians_kernel_and_again_after_a_boot(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "the kernel lane needs root"
    kernel = emulated()
    kept: Path | None = None
    for number, tests in enumerate(BOOTS):
        directory = tmp_path / str(number)
        directory.mkdir()
        here = directory / "kept"
        if kept is not None:
            kept.rename(here)
        words = (sys.executable, "-m", "pytest", "-v", "-m", "lab", *tests)
        plugins = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
        environment = {"POOLNET_TEST_KEPT": str(here), "POOLNET_LAB_PATIENCE": "5"}
        done = machine.run((*words, *plugins), environment, directory, limit_s=LIMIT_S, kernel=kernel)
        assert done.code == 0, done.console
        assert f"{len(tests)} passed" in done.console, done.console
        kept = here
