"""The audit log of real hosts: read by `xe`, verified on the console, whole after a crash, undone with planned changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from poolnet.lab.audit import verify
from tests.lab import survival, switches
from tests.lab.running import RunningLab, running_lab
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

HOST = "host1"
STATE = "var-lib/poolnet/api"


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(hosts=1) as one:
        yield one


def records(lab: RunningLab, *words: str) -> list[dict[str, Any]]:
    said = lab.run(HOST, "xe", "audit-log-get", "filename=", *words)
    return [json.loads(line) for line in said.splitlines()]


def last(lab: RunningLab, method: str) -> int:
    """The number of the last record about a message."""
    return int([each["seq"] for each in records(lab) if each["entry"]["method"] == method][-1])


def state(lab: RunningLab) -> Any:
    """What the host's network is, by the database and by the switch."""
    lists = [
        lab.xe(HOST, f"{name}-list", "params=all").replace("\r", "")
        for name in ("network", "bond", "vlan", "vif")
    ]
    shown = (
        "uuid",
        "device",
        "VLAN",
        "management",
        "IP-configuration-mode",
        "IP",
        "bond-master-of",
        "bond-slave-of",
    )
    pifs = lab.xe(HOST, "pif-list", f"params={','.join(shown)}")
    return lists, pifs, switches.tags(lab, HOST), switches.bonds(lab, HOST), switches.bridges(lab, HOST)


def test_changes_of_a_real_host_are_taken_back_exactly(lab: RunningLab) -> None:
    network = lab.xe(HOST, "network-create", "name-label=n")
    eth0, eth1 = (lab.xe(HOST, "pif-list", f"device={device}", "--minimal") for device in ("eth0", "eth1"))
    vm = lab.start_vm(HOST, "vm1", network, "10.0.0.1/24")
    vif = lab.xe(HOST, "vif-list", f"vm-uuid={vm}", "--minimal")
    changes = {
        "VLAN.create": ("vlan-create", f"pif-uuid={eth1}", "vlan=7", f"network-uuid={network}"),
        "Bond.create": (
            "bond-create",
            f"network-uuid={network}",
            f"pif-uuids={eth0},{eth1}",
            "mode=active-backup",
        ),
        "VIF.set_locking_mode": ("vif-param-set", f"uuid={vif}", "locking-mode=disabled"),
        "PIF.reconfigure_ip": (
            "pif-reconfigure-ip",
            f"uuid={eth1}",
            "mode=static",
            "IP=10.88.0.1",
            "netmask=255.255.255.0",
        ),
    }
    for method, words in changes.items():
        before = state(lab)
        lab.xe(HOST, *words)
        assert state(lab) != before, words
        lab.xe(HOST, "audit-undo", f"entry={last(lab, method)}")
        eventually(lambda before=before: state(lab) == before, f"all is as it was before {method}")  # type: ignore[misc]


def test_the_log_is_read_and_verified_and_a_tampered_copy_is_found(lab: RunningLab, tmp_path: Path) -> None:
    network = lab.xe(HOST, "network-create", "name-label=later")
    when = records(lab)[-1]["entry"]["time"]
    lab.xe(HOST, "network-destroy", f"uuid={network}")
    said = records(lab, f"since={when}")
    assert [each["entry"]["method"] for each in said] == ["network.create", "network.destroy"]
    assert "The audit log is whole" in lab.run(HOST, "poolnet", "audit", "verify")
    there = lab.lab.directory / HOST / STATE
    eventually(lambda: verify([], there) == 0, "the database knows of the end")
    copy = tmp_path / "state"
    copy.mkdir()
    for path in there.glob("pool.db*"):
        shutil.copy(path, copy)
    shutil.copytree(there / "audit", copy / "audit")
    assert verify([], copy) == 0
    (file,) = (copy / "audit").iterdir()
    whole = file.read_bytes()
    for tampered in (
        whole.replace(b'"later"', b'"other"'),
        b"".join(whole.splitlines(keepends=True)[:-3]),
        b"",
    ):
        file.write_bytes(tampered)
        assert verify([], copy) == 1


def test_no_commit_is_missing_in_the_log_after_the_server_was_killed(lab: RunningLab) -> None:
    def create(number: int) -> str:
        try:
            return lab.xe(HOST, "network-create", f"name-label=burst{number}")
        except AssertionError:
            return ""  # the server was gone

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(create, number) for number in range(60)]
        eventually(lambda: sum(call.done() for call in calls) > 20, "some are made")
        survival.kill(lab, HOST, "poolnet-api")
        made = {call.result() for call in calls} - {""}
    survival.wait_until_served(lab, HOST)
    there = set(lab.xe(HOST, "network-list", "--minimal").split(","))
    assert made <= there
    logged = {
        change["uuid"]
        for each in records(lab)
        for change in each["entry"].get("changes", ())
        if "created" in change and change["class"] == "network"
    }
    burst = {
        uuid
        for uuid in there
        if lab.xe(HOST, "network-param-get", f"uuid={uuid}", "param-name=name-label").startswith("burst")
    }
    assert made <= burst <= logged
    assert "The audit log is whole" in lab.run(HOST, "poolnet", "audit", "verify")
