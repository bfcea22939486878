"""Storage in directories of the host: connected by a real mount, seen by the whole host, lost and found again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from poolnet.lab import life
from tests.lab import xe_here
from tests.lab.running import RunningLab, lab_to_share
from tests.lab.survival import kill
from tests.waiting import eventually

pytestmark = pytest.mark.lab

DIRECTORY = "/var/lib/poolnet/storage"


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """One host."""
    with lab_to_share(hosts=1, nics=1) as one:
        yield one


def create(lab: RunningLab, kind: str, location: str, *words: str) -> tuple[str, str]:
    """A new SR in a directory; its uuid and its PBD's."""
    named = (f"type={kind}", f"name-label={kind}", f"device-config:location={location}")
    sr = lab.xe("host1", "sr-create", *named, *words)
    return sr, lab.xe("host1", "pbd-list", f"sr-uuid={sr}", "--minimal")


def mounted(lab: RunningLab, sr: str) -> bool:
    return f" /run/sr-mount/{sr} " in lab.run("host1", "cat", "/proc/mounts")


def refusal(lab: RunningLab, *words: str) -> str:
    """What a command that must fail says."""
    code, said, complaints = xe_here.xe(lab.lab.directory / "host1", *words)
    assert code != 0, said
    return said + complaints


def test_an_sr_in_a_directory_from_its_creation_to_its_end(lab: RunningLab) -> None:
    sr, pbd = create(lab, "file", f"{DIRECTORY}/disks")
    assert mounted(lab, sr)
    lab.run("host1", "sh", "-c", f"echo disk >/run/sr-mount/{sr}/a.vhd")
    assert lab.run("host1", "cat", f"{DIRECTORY}/disks/a.vhd") == "disk\n"
    asked = f"uuid={sr}"
    assert int(lab.xe("host1", "sr-param-get", asked, "param-name=physical-size")) > 0
    allowed = lab.xe("host1", "sr-param-get", asked, "param-name=allowed-operations").split("; ")
    assert {"unplug", "scan"} <= set(allowed)
    assert not {"forget", "destroy"} & set(allowed)
    assert "A host is connected to the storage." in refusal(lab, "sr-destroy", asked)
    lab.xe("host1", "sr-scan", asked)
    lab.xe("host1", "pbd-unplug", f"uuid={pbd}")
    assert not mounted(lab, sr)
    assert lab.run("host1", "cat", f"{DIRECTORY}/disks/a.vhd") == "disk\n"
    assert "SR_BACKEND_FAILURE_62" in refusal(lab, "sr-destroy", asked)
    lab.run("host1", "rm", f"{DIRECTORY}/disks/a.vhd")
    lab.xe("host1", "sr-destroy", asked)
    assert lab.xe("host1", "sr-list", asked, "--minimal") == ""
    assert "disks" not in lab.run("host1", "ls", DIRECTORY).split()


def test_an_sr_is_forgotten_and_introduced_again(lab: RunningLab) -> None:
    lab.run("host1", "mkdir", "-p", f"{DIRECTORY}/isos")
    lab.run("host1", "touch", f"{DIRECTORY}/isos/debian.iso")
    sr, pbd = create(lab, "iso", f"{DIRECTORY}/isos", "device-config:legacy_mode=true", "content-type=iso")
    assert lab.run("host1", "ls", f"/run/sr-mount/{sr}") == "debian.iso\n"
    lab.xe("host1", "pbd-unplug", f"uuid={pbd}")
    lab.xe("host1", "sr-forget", f"uuid={sr}")
    again = ("type=iso", "name-label=isos", "content-type=iso", f"uuid={sr}")
    assert lab.xe("host1", "sr-introduce", *again) == sr
    assert "There is storage with this uuid already." in refusal(lab, "sr-introduce", *again)
    host = lab.xe("host1", "host-list", "--minimal")
    config = (f"device-config:location={DIRECTORY}/isos", "device-config:legacy_mode=true")
    pbd = lab.xe("host1", "pbd-create", f"host-uuid={host}", f"sr-uuid={sr}", *config)
    lab.xe("host1", "pbd-plug", f"uuid={pbd}")
    assert lab.run("host1", "ls", f"/run/sr-mount/{sr}") == "debian.iso\n"
    lab.xe("host1", "pbd-unplug", f"uuid={pbd}")
    lab.xe("host1", "pbd-destroy", f"uuid={pbd}")
    lab.xe("host1", "sr-forget", f"uuid={sr}")


@pytest.mark.parametrize("location", ["/etc", "/srv", "/var/lib/poolnet/api", f"{DIRECTORY}/../api"])
def test_no_other_directory_of_the_host_can_be_used(lab: RunningLab, location: str) -> None:
    words = (f"device-config:location={location}", "name-label=bad")
    said = refusal(lab, "sr-create", "type=file", *words)
    assert "SR_BACKEND_FAILURE_61" in said
    local = refusal(lab, "sr-create", "type=iso", "device-config:legacy_mode=true", *words)
    assert "SR_BACKEND_FAILURE_226" in local
    assert lab.xe("host1", "sr-list", "name-label=bad", "--minimal") == ""
    assert "/run/sr-mount/" not in lab.run("host1", "cat", "/proc/mounts")


def test_a_link_does_not_lead_out(lab: RunningLab) -> None:
    lab.run("host1", "mkdir", "-p", DIRECTORY)
    lab.run("host1", "ln", "-sfn", "/etc", f"{DIRECTORY}/link")
    said = refusal(
        lab, "sr-create", "type=file", "name-label=bad", f"device-config:location={DIRECTORY}/link/x"
    )
    assert "SR_BACKEND_FAILURE_61" in said
    lab.run("host1", "rm", f"{DIRECTORY}/link")


def test_a_server_that_is_not_there_is_an_error_and_nothing_stays(lab: RunningLab) -> None:
    words = ("type=nfs", "name-label=bad", "shared=true", "device-config:serverpath=/export")
    assert "SR_BACKEND_FAILURE_108" in refusal(lab, "sr-create", *words, "device-config:server=127.0.0.1")
    assert "SR_BACKEND_FAILURE_140" in refusal(
        lab, "sr-create", *words, "device-config:server=no.such.invalid"
    )
    assert "SR_BACKEND_FAILURE_140" in refusal(lab, "sr-create", *words, "device-config:server=-o exec")
    assert lab.xe("host1", "sr-list", "name-label=bad", "--minimal") == ""
    assert lab.run("host1", "ls", "/run/sr-mount") == ""


def test_the_daemon_refuses_what_its_schema_forbids(lab: RunningLab) -> None:
    code = """
import json, socket, sys
one = socket.socket(socket.AF_UNIX); one.connect("/run/poolnet/hostd.sock")
frame = json.dumps({"id": 1, "command": json.loads(sys.argv[1])}).encode()
one.sendall(len(frame).to_bytes(4, "big") + frame)
print(one.recv(65536)[4:].decode())
"""
    good = {"sr": "b2a7c4de-0000-4000-8000-000000000001"}
    nfs = {"type": "NfsExport", "server": "127.0.0.1", "path": "/x"}
    for wrong in (
        {"sr": "../../etc", "source": nfs},
        {**good, "source": {**nfs, "server": "-oexec"}},
        {**good, "source": {**nfs, "path": "x"}},
        {**good, "source": {**nfs, "options": ["suid"]}},
        {**good, "source": {**nfs, "options": ["ro,exec"]}},
        {**good, "source": {**nfs, "version": "4,exec"}},
        {**good, "source": {"type": "LocalDirectory", "path": "/srv/\n"}},
    ):
        command = {"type": "ChangeStorage", "action": {"type": "AttachStorage", **wrong}}
        python = ("python3", "-c", code, json.dumps(command))
        answer = json.loads(lab.run("host1", *python))["answer"]
        assert (answer["type"], answer["fault"]) == ("Refused", "malformed"), (wrong, answer)


def test_storage_outlives_the_daemons_and_comes_back_with_the_host(lab: RunningLab) -> None:
    sr, pbd = create(lab, "file", f"{DIRECTORY}/kept")
    before = lab.run("host1", "stat", "--format=%Z", f"/run/sr-mount/{sr}")
    for program in ("poolnet-hostd", "poolnet-api"):
        kill(lab, "host1", program)
    words = ("xe", "pbd-list", "--minimal")
    eventually(lambda: lab.run("host1", *words, check=False).strip() == pbd, "the server is back")
    assert lab.run("host1", "stat", "--format=%Z", f"/run/sr-mount/{sr}") == before
    asyncio.run(life.reboot(lab.name, "host1", hard=False))
    eventually(lambda: mounted(lab, sr), "the storage is mounted again")
    assert lab.xe("host1", "pbd-param-get", f"uuid={pbd}", "param-name=currently-attached") == "true"
    lab.xe("host1", "pbd-unplug", f"uuid={pbd}")
    lab.xe("host1", "sr-destroy", f"uuid={sr}")
