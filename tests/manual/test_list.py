"""The list of procedures in this directory's README."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_procedure_has_its_file() -> None:
    listed = re.findall(r"`(test_\w+\.py)` \|", (HERE / "README.md").read_text(encoding="utf-8"))
    files = {path.name for path in HERE.glob("test_*.py")} - {"test_list.py"}
    assert sorted(listed) == sorted(files)
