"""Which tests of the lab run on another kernel too? For each backend, the modules whose tests it must pass there.

What is here must pass on a machine about ten times slower than this one, with one processor.
"""

from __future__ import annotations

MODULES = {
    "openvswitch": (
        "tests/kernel/nfs_storage.py",
        "tests/kernel/rates_in_the_kernel.py",
        "tests/lab/test_networks_in_use.py",
    ),
    "linuxbridge": ("tests/kernel/linuxbridge_links.py",),
}
