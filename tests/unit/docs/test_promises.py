"""What `docs/security.md` promises, it says a test of: is each of them there?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]
NAMED: Final = re.compile(r"`((?:tests/[\w/]+/)?test_\w+(?:\.py)?(?:::test_\w+)?…?)`")


@cache
def functions() -> dict[str, frozenset[str]]:
    """The functions of each file of tests, by the file's path."""
    return {
        str(path.relative_to(ROOT)): frozenset(
            node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
        )
        for path in (ROOT / "tests").rglob("test_*.py")
    }


def named(text: str) -> Iterator[tuple[str, str]]:
    """File and function of each test that a text names; either may be left out."""
    for found in NAMED.findall(text):
        path, _, function = found.rpartition("::") if "::" in found else ("", "", found)
        if function.endswith(".py"):
            path, function = function, ""
        yield path, function


def exists(path: str, function: str) -> bool:
    files = [names for each, names in functions().items() if f"/{each}".endswith(f"/{path}" if path else "")]
    wanted = function.rstrip("…")
    return any(not wanted or any(name.startswith(wanted) for name in names) for names in files)


@pytest.mark.parametrize("page", ["docs/security.md", "docs/ja/security.md"])
def test_every_promise_names_tests_that_exist(page: str) -> None:
    found = set(named((ROOT / page).read_text()))
    assert len(found) > 20
    assert {each for each in found if not exists(*each)} == set()


def test_what_does_not_exist_is_found() -> None:
    text = "`tests/lab/test_audit.py`, `test_nothing.py`, `test_closed_doors.py::test_no_such_…`, `test_no_secret_…`, `xe`"
    assert [each for each in named(text) if not exists(*each)] == [
        ("test_nothing.py", ""),
        ("test_closed_doors.py", "test_no_such_…"),
    ]
