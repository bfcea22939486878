"""Storage on an NFS server, on a kernel that has an NFS client (see `suite`): connected, lost, and plugged again.

The server is the kernel's own, on the lab's physical switch. Nothing is mocked: what the host writes is read there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from poolnet.lab import life
from tests.lab.running import RunningLab, lab_to_share, running_lab
from tests.manual.console import Console
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

SERVER = "10.66.0.1"
EXPORT = "/run/export"
_STATE = "/run/nfs-state"
_GRACE_S = 10  # the shortest that the server takes: so long it opens no files after its start


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    """The console of a host with a NIC for storage."""
    with lab_to_share(hosts=1) as lab, _with_storage(lab) as found:
        yield found


@contextmanager
def _with_storage(lab: RunningLab) -> Iterator[Console]:
    """The host has an address in the network of the server; afterwards eth1 is as it was."""
    console = Console(lab)
    pif = f"uuid={console.pif('eth1')}"
    with console.answering_outside(address=f"{SERVER}/24"), _serving(console):
        console.xe("pif-reconfigure-ip", pif, *_static("10.66.0.9"))
        eventually(lambda: console.reaches(SERVER), "the storage is reached")
        yield console
    console.xe("pif-reconfigure-ip", pif, "mode=none")
    console.xe("pif-unplug", pif)


@contextmanager
def _serving(console: Console) -> Iterator[None]:
    """An NFS server on the switch, of version 4 alone, which has a root of its own: what is exported."""
    console.switch("mkdir", "-p", EXPORT, _STATE)
    console.switch("mount", "--types", "tmpfs", "tmpfs", EXPORT)
    console.switch("mount", "--bind", _STATE, "/var/lib/nfs")
    console.switch("sh", "-c", "mkdir -p /var/lib/nfs/v4recovery; touch /var/lib/nfs/etab /var/lib/nfs/rmtab")
    console.switch("mount", "--types", "nfsd", "nfsd", "/proc/fs/nfsd")
    console.switch("exportfs", "-o", "rw,no_root_squash,no_subtree_check,insecure,fsid=0", f"*:{EXPORT}")
    console.switch("rpc.mountd", "--no-nfs-version", "3")
    try:
        console.switch("rpc.nfsd", "--no-nfs-version", "3", "--grace-time", str(_GRACE_S), "2")
        yield
    finally:
        console.switch("rpc.nfsd", "0")


def _static(address: str) -> tuple[str, ...]:
    return ("mode=static", f"IP={address}", "netmask=255.255.255.0")


def _create(console: Console, *words: str) -> str:
    config = (f"device-config:server={SERVER}", "device-config:serverpath=/")
    return console.xe("sr-create", "type=nfs", "name-label=disks", "shared=true", *config, *words)


def _mounted(console: Console, sr: str) -> str:
    lines = [line.split() for line in console.run("cat", "/proc/mounts").splitlines()]
    return next((f"{line[2]} {line[0]}" for line in lines if line[1] == f"/run/sr-mount/{sr}"), "")


def test_an_sr_is_made_on_the_server_used_and_removed(console: Console) -> None:
    make_use_and_remove(console)


def test_an_sr_is_made_used_and_removed_with_open_vswitch_in_user_space() -> None:
    """What is run here because here is an NFS client."""
    with running_lab(hosts=1, datapath_type="netdev") as lab, _with_storage(lab) as console:
        assert "netdev@" in console.run("ovs-appctl", "dpif/show")
        make_use_and_remove(console)
        plug_again_after_a_new_address(console)
        mount_an_iso_library(console)


def make_use_and_remove(console: Console) -> None:
    sr = _create(console)
    pbd = console.xe("pbd-list", f"sr-uuid={sr}", "--minimal")
    assert console.param("pbd", pbd, "currently-attached") == "true"
    assert _mounted(console, sr) == f"nfs4 {SERVER}:/{sr}"
    assert int(console.param("sr", sr, "physical-size")) > 0
    console.run("sh", "-c", f"echo from the host >/run/sr-mount/{sr}/note")
    assert console.switch("cat", f"{EXPORT}/{sr}/note") == "from the host\n"
    in_use = console.attempt(f"cd /run/sr-mount/{sr} && xe pbd-unplug uuid={pbd}")
    assert "SR_BACKEND_FAILURE_74" in in_use.err, in_use
    assert console.param("pbd", pbd, "currently-attached") == "true"
    console.xe("pbd-unplug", f"uuid={pbd}")
    assert _mounted(console, sr) == ""
    full = console.attempt(f"xe sr-destroy uuid={sr}")
    assert "SR_BACKEND_FAILURE_76" in full.err, full
    console.switch("rm", f"{EXPORT}/{sr}/note")
    console.xe("sr-destroy", f"uuid={sr}")
    assert console.switch("ls", EXPORT) == ""
    assert console.xe("sr-list", f"uuid={sr}", "--minimal") == ""


def test_storage_is_plugged_again_after_the_address_has_changed(console: Console) -> None:
    plug_again_after_a_new_address(console)


def plug_again_after_a_new_address(console: Console) -> None:
    sr = _create(console)
    pbd = console.xe("pbd-list", f"sr-uuid={sr}", "--minimal")
    console.switch("sh", "-c", f"echo from the server >{EXPORT}/{sr}/note")
    console.type(
        "xe pif-reconfigure-ip uuid=pif_uuid mode=Static IP=IP netmask=netmask",
        pif_uuid=console.pif("eth1"),
        IP="10.66.0.10",
        netmask="255.255.255.0",
    )
    console.type("xe pbd-unplug uuid=uuid", uuid=pbd)
    with console.heard_outside("eth1", f"tcp port 2049 and dst {SERVER}") as frames:
        console.type("xe pbd-plug uuid=uuid", uuid=pbd)
        assert console.run("cat", f"/run/sr-mount/{sr}/note") == "from the server\n"
    assert frames
    assert all("10.66.0.10." in frame for frame in frames), frames
    console.xe("pbd-unplug", f"uuid={pbd}")
    console.xe("sr-forget", f"uuid={sr}")
    assert console.switch("cat", f"{EXPORT}/{sr}/note") == "from the server\n"


def test_an_iso_library_is_mounted_as_it_is(console: Console) -> None:
    mount_an_iso_library(console)


def mount_an_iso_library(console: Console) -> None:
    console.switch("sh", "-c", f"mkdir -p {EXPORT}/iso && echo image >{EXPORT}/iso/debian.iso")
    words = ("type=iso", "content-type=iso", "name-label=isos", "shared=true")
    config = (f"device-config:location={SERVER}:/iso", "device-config:options=-o ro")
    sr = console.xe("sr-create", *words, *config)
    assert console.run("cat", f"/run/sr-mount/{sr}/debian.iso") == "image\n"
    assert console.attempt(f"touch /run/sr-mount/{sr}/new").code != 0
    console.xe("pbd-unplug", f"uuid={console.xe('pbd-list', f'sr-uuid={sr}', '--minimal')}")
    console.xe("sr-destroy", f"uuid={sr}")
    assert "debian.iso" in console.switch("ls", f"{EXPORT}/iso")


def test_storage_comes_back_with_the_host_and_an_alert_says_if_not(console: Console) -> None:
    sr = _create(console)
    pbd = console.xe("pbd-list", f"sr-uuid={sr}", "--minimal")
    asyncio.run(life.reboot(console.lab.name, "host1", hard=False))
    eventually(lambda: _mounted(console, sr) != "", "the storage is mounted again", 60.0)
    console.switch("ovs-vsctl", "set", "Port", "host1-eth1", "tag=99")  # the server is silent from now on
    begun = console.attempt(f"xe sr-scan uuid={sr} & xe network-create name-label=meanwhile; wait")
    assert begun.out.strip(), begun
    console.xe("pbd-unplug", f"uuid={pbd}")
    refused = console.attempt(f"xe pbd-plug uuid={pbd}")
    assert "SR_BACKEND_FAILURE_108" in refused.err, refused
    console.switch("ovs-vsctl", "clear", "Port", "host1-eth1", "tag")
    console.xe("sr-forget", f"uuid={sr}")
