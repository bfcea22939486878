"""IPアドレス設定の変更 / ストレージ専用NICの設定: storage is plugged again after the address of the host has changed.

The storage is a directory here; what a change of address does to an NFS mount is shown on a kernel that has a client
(`tests/kernel/nfs_storage.py`).
"""

from __future__ import annotations

import pytest

from tests.manual.console import Console

pytestmark = pytest.mark.lab


def test_storage_is_plugged_again(console: Console) -> None:
    location = "device-config:location=/var/lib/poolnet/storage/manual"
    sr = console.xe("sr-create", "type=file", "name-label=manual", location)
    pbd = console.xe("pbd-list", f"sr-uuid={sr}", "--minimal")
    point = f"/run/sr-mount/{sr}"
    assert point in console.run("cat", "/proc/mounts")
    console.type("xe pbd-unplug uuid=uuid", uuid=pbd)
    assert point not in console.run("cat", "/proc/mounts")
    assert console.param("pbd", pbd, "currently-attached") == "false"
    console.type("xe pbd-plug uuid=uuid", uuid=pbd)
    assert point in console.run("cat", "/proc/mounts")
    assert console.param("pbd", pbd, "currently-attached") == "true"
    console.type("xe pbd-unplug uuid=uuid", uuid=pbd)
    console.xe("sr-destroy", f"uuid={sr}")
    assert console.xe("sr-list", "name-label=manual", "--minimal") == ""
