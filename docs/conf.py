"""Sphinx configuration. The build needs no network; the API reference is generated from the declarations first."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "poolnet"
author = "the poolnet developers"
extensions = ["myst_parser", "api_reference"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
language = "en"
