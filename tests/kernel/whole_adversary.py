"""All attacks in all locking modes against Open vSwitch's datapath in the kernel: `make kernel-locks`, some minutes.

The kernel lane of `make test` sends them all in the modes that matter most (`suite.LOCKS`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.kernel import machine

LIMIT_S = 1800.0


def main() -> int:
    """The exit code of the tests there."""
    plugins = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
    words = (sys.executable, "-m", "pytest", "-v", "-m", "lab", *plugins)
    environment = {"POOLNET_LAB_BACKEND": "openvswitch", "POOLNET_LAB_PATIENCE": "5"}
    with TemporaryDirectory(prefix="whole-adversary") as directory:
        done = machine.run(
            (*words, "tests/lab/test_adversary.py"), environment, Path(directory), limit_s=LIMIT_S
        )
    sys.stdout.write(done.console)
    return done.code


if __name__ == "__main__":
    sys.exit(main())
