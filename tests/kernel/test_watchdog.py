"""A hardware watchdog, as the guard of a host with a lease drives it: the kernel's `softdog`, in User Mode Linux."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel import machine

LIMIT_S = 300.0
pytestmark = [pytest.mark.kernel, pytest.mark.timeout(LIMIT_S + 60)]

TELLS = "softdog soft_noboot=1 nowayout=0"  # it says that it would reset the machine, and does not


def test_the_kernels_watchdog_goes_off_in_time_and_only_then(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "the kernel lane needs root"
    kernel = replace(machine.USER_MODE, modules=(TELLS,), switch=False)
    words = (sys.executable, "-m", "pytest", "-v", "-m", "lab", "tests/kernel/softdog_guard.py")
    plugins = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
    done = machine.run((*words, *plugins), {}, tmp_path, limit_s=LIMIT_S, kernel=kernel)
    assert done.code == 0, done.console
    assert "5 passed" in done.console, done.console
