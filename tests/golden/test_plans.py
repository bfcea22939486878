"""The plans of usual changes, as a person reads them.

Each case is a folder with the observed and the desired state (fields that are left out have their defaults)
and the plan's text. The texts were checked by hand; a change of one is a change of what users see.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from poolnet.hostnet.diff import diff
from poolnet.hostnet.show import plan_hash, show_plan
from poolnet.hostnet.state import HostNetwork
from poolnet.hostnet.steps import Plan

CASES = sorted(path for path in (Path(__file__).parent / "plan").iterdir() if path.is_dir())


def read(path: Path) -> HostNetwork:
    return msgspec.json.decode(path.read_bytes(), type=HostNetwork)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_the_plan_reads_as_agreed(case: Path) -> None:
    desired = read(case / "desired.json")
    plan = diff(read(case / "observed.json"), desired)
    assert show_plan(plan, desired) == (case / "plan.txt").read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_plan_survives_a_trip_through_json_with_its_hash(case: Path) -> None:
    plan = diff(read(case / "observed.json"), read(case / "desired.json"))
    again = msgspec.json.decode(msgspec.json.encode(plan), type=Plan)
    assert again == plan
    assert plan_hash(again) == plan_hash(plan)
