"""Where can an Open vSwitch forward frames: in this kernel, or in its own process? Asked when a lab starts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

DATAPATHS = ("system", "netdev")
_MODULE = "openvswitch"
_LOADED = Path("/sys/module") / _MODULE
_LOADS_WITHIN_S = 20.0


def possible() -> str:
    """`system` when the kernel has Open vSwitch's datapath, which is loaded for that; `netdev` otherwise."""
    modprobe = shutil.which("modprobe")
    if not _LOADED.exists() and modprobe is not None:
        words = (modprobe, "--quiet", _MODULE)
        subprocess.run(words, check=False, capture_output=True, timeout=_LOADS_WITHIN_S)  # noqa: S603 - no shell, and words of our own
    return "system" if _LOADED.exists() else "netdev"
