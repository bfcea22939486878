"""The lab's tests on a kernel with 802.1Q, bonding, VLAN filtering, Open vSwitch and policing (see docs/developer)."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.kernel import machine, suite

LIMIT_S = 1500.0  # beside the lab's tests, on a busy machine
pytestmark = [pytest.mark.kernel, pytest.mark.long, pytest.mark.timeout(LIMIT_S + 60)]


@pytest.mark.parametrize("backend", suite.MODULES)
def test_the_lab_does_on_another_kernel_what_it_does_here(backend: str, tmp_path: Path) -> None:
    assert os.geteuid() == 0, "the kernel lane needs root"
    report = tmp_path / "report.xml"
    words = (sys.executable, "-m", "pytest", "-v", "-m", "lab", f"--junitxml={report}")
    plugins = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
    environment = {"POOLNET_LAB_BACKEND": backend, "POOLNET_LAB_PATIENCE": "5"}
    done = machine.run((*words, *plugins, *suite.MODULES[backend]), environment, tmp_path, limit_s=LIMIT_S)
    assert report.exists(), done.console
    outcomes = {
        f"{case.get('classname')}.{case.get('name')}": [child.tag for child in case]
        for case in ET.parse(report).getroot().iter("testcase")
    }
    bad = {name for name, tags in outcomes.items() if {"failure", "error", "skipped"} & set(tags)}
    assert (done.code, bad) == (0, set()), done.console
    assert outcomes
