"""Every precondition of the list in README.md, by its number, against the real API in this process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conformance.preconditions import (
    section_07,
    section_08,
    section_08_config,
    section_11,
    section_12,
    section_13,
    section_14,
    section_18,
    section_28,
    section_28_scenarios,
)
from tests.conformance.preconditions.rig import CASES, carry_out

TEXT = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^- (\d+\.\d+\.\d+) ", TEXT, re.MULTILINE)
SECTIONS = (
    section_07,
    section_08,
    section_08_config,
    section_11,
    section_12,
    section_13,
    section_14,
    section_18,
    section_28,
    section_28_scenarios,
)


def test_every_precondition_of_the_list_has_a_test_and_every_test_is_in_the_list() -> None:
    count = re.search(r"^Count: (\d+)$", TEXT, re.MULTILINE)
    assert count is not None
    assert len(LISTED) == len(set(LISTED)) == int(count[1])
    assert sorted(LISTED) == sorted(CASES)
    assert all(section.__doc__ for section in SECTIONS)


@pytest.mark.parametrize("number", LISTED)
def test_the_precondition(number: str) -> None:
    carry_out(number)
