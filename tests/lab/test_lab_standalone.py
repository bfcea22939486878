"""`poolnet init` below a directory: what it finds, asks, refuses and writes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

POOLNET = str(Path(sys.executable).with_name("poolnet"))
STATIC = (
    "--management",
    "eno1",
    "--address",
    "192.0.2.5/24",
    "--gateway",
    "192.0.2.1",
    "--dns",
    "192.0.2.53",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with two NICs and a bridge."""
    for name, hardware in (("eno1", True), ("eno2", True), ("virbr0", False), ("lo", False)):
        link = tmp_path / "sys/class/net" / name
        link.mkdir(parents=True)
        (link / "address").write_text("02:00:00:00:00:01\n", encoding="ascii")
        (link / "carrier").write_text("1\n", encoding="ascii")
        if hardware:
            (link / "device").mkdir()
    return tmp_path


def init(root: Path, *words: str, answers: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "POOLNET_ROOT": str(root)}
    return subprocess.run(
        (POOLNET, "init", "--in-place", *words),
        check=False,
        input=answers,
        capture_output=True,
        text=True,
        env=environment,
    )


def hostd(root: Path) -> dict[str, object]:
    return tomllib.loads((root / "etc/poolnet/hostd.toml").read_text(encoding="utf-8"))


def written(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "sys" not in path.parts
    )


def test_flags_alone_write_the_whole_configuration(root: Path) -> None:
    done = init(root, *STATIC, "--nics", "eno1,eno2", "--vlan", "7", "--yes")
    assert done.returncode == 0, done.stderr
    assert hostd(root) == {
        "backend": "openvswitch",
        "datapath_type": "system",
        "nics": ["eno1", "eno2"],
        "guest_runtime": "none",
        "api_user": "poolnet",
        "management": {
            "nic": "eno1",
            "vlan": 7,
            "mode": "static",
            "address": "192.0.2.5/24",
            "gateway": "192.0.2.1",
            "dns": ["192.0.2.53"],
        },
    }
    assert written(root) == [
        "etc/pam.d/poolnet",
        "etc/pam.d/poolnet-directory",
        "etc/poolnet/api.toml",
        "etc/poolnet/hostd.toml",
        "etc/systemd/system/ovs-vswitchd.service.d/poolnet.conf",
        "etc/systemd/system/poolnet-api.service",
        "etc/systemd/system/poolnet-db.service",
        "etc/systemd/system/poolnet-hostd.service",
        "etc/tmpfiles.d/poolnet.conf",
        "var/lib/poolnet/api/users.toml",
    ]


def test_a_libvirt_that_is_there_runs_the_guests(root: Path) -> None:
    assert (
        "apt-get install libvirt-daemon-system" in init(root, *STATIC, "--yes", "--guests", "libvirt").stderr
    )
    assert written(root) == []
    socket = root / "run/libvirt/libvirt-sock"
    socket.parent.mkdir(parents=True)
    socket.touch()
    done = init(root, *STATIC, "--yes")
    assert done.returncode == 0, done.stderr
    assert "Guests: domains of libvirt, which this machine has (qemu)" in done.stdout
    assert hostd(root)["guest_runtime"] == "libvirt"
    assert hostd(root)["libvirt"] == {"domains": ["*"], "hypervisor": "qemu"}
    (root / "etc/poolnet/hostd.toml").unlink()
    assert init(root, *STATIC, "--yes", "--guests", "none").returncode == 0
    assert hostd(root)["guest_runtime"] == "none"


def test_the_first_password_is_printed_and_kept_only_as_a_hash(root: Path) -> None:
    done = init(root, *STATIC, "--yes")
    password = done.stdout.split("with the password ")[1].split()[0]
    users = root / "var/lib/poolnet/api/users.toml"
    assert password not in users.read_text(encoding="utf-8")
    assert tomllib.loads(users.read_text(encoding="utf-8"))["users"]["root"]["password_hash"].startswith(
        "$argon2id$"
    )
    assert users.stat().st_mode & 0o777 == 0o600


def test_no_nic_is_taken_that_was_not_named(root: Path) -> None:
    done = init(root, "--management", "eno2", "--address", "dhcp", "--yes")
    assert done.returncode == 0, done.stderr
    assert hostd(root)["nics"] == ["eno2"]
    assert hostd(root)["management"] == {"nic": "eno2", "vlan": -1, "mode": "dhcp"}
    assert "eno1            02:00:00:00:00:01  link     left alone" in done.stdout


def test_it_asks_for_what_no_flag_says(root: Path) -> None:
    done = init(root, answers="eno1\neno1,eno2\n192.0.2.5/24\nyes\n")
    assert done.returncode == 0, done.stderr
    assert hostd(root)["nics"] == ["eno1", "eno2"]


def test_without_a_yes_nothing_is_written(root: Path) -> None:
    done = init(root, *STATIC, "--nics", "eno1", answers="\n")
    assert done.returncode == 1
    assert done.stdout.endswith("Nothing was written.\n")
    assert written(root) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--management", "eno9"), "there is no NIC eno9 (this machine has eno1, eno2)"),
        (("--management", "../x"), "is no name of a NIC"),
        ((), "say which NIC is the management NIC with --management"),
        (("--management", "eno1", "--nics", "eno2"), "--nics must contain the management NIC eno1"),
        (("--management", "eno1", "--vlan", "4095"), "--vlan must be from 1 to 4094, not 4095"),
        (("--management", "eno1", "--address", "192.0.2.300/24"), "is no address"),
        (("--management", "eno1", "--address", "192.0.2.5"), "needs a prefix length"),
        (
            ("--management", "eno1", "--address", "192.0.2.5/24", "--gateway", "198.51.100.1"),
            "the gateway 198.51.100.1 is not in the network 192.0.2.0/24",
        ),
        (("--management", "eno1", "--address", "192.0.2.5/24", "--dns", "here"), "'here' is no address"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(root: Path, words: tuple[str, ...], reason: str) -> None:
    done = init(root, *words, "--yes")
    assert done.returncode == 1
    assert reason in done.stderr
    assert written(root) == []


def test_a_machine_that_is_set_up_is_not_set_up_again(root: Path) -> None:
    init(root, *STATIC, "--yes")
    before = (root / "etc/poolnet/hostd.toml").read_text(encoding="utf-8")
    done = init(root, "--management", "eno2", "--address", "dhcp", "--yes")
    assert "is a poolnet host already" in done.stderr
    assert (root / "etc/poolnet/hostd.toml").read_text(encoding="utf-8") == before


def test_a_nic_that_debian_sets_up_as_well_is_pointed_out(root: Path) -> None:
    interfaces = root / "etc/network/interfaces"
    interfaces.parent.mkdir(parents=True)
    interfaces.write_text("auto eno1\niface eno1 inet dhcp\n", encoding="ascii")
    assert "/etc/network/interfaces sets up eno1 as well" in init(root, *STATIC, "--yes").stdout


def test_the_units_start_the_programs_in_place_if_they_are_told_to(root: Path) -> None:
    init(root, *STATIC, "--yes")
    unit = (root / "etc/systemd/system/poolnet-hostd.service").read_text(encoding="utf-8")
    assert f"ExecStart={Path(sys.executable).parent}/poolnet-hostd\n" in unit


@pytest.mark.timeout(180)
def test_a_checkout_is_installed_where_the_services_may_read_it(root: Path) -> None:
    environment = {**os.environ, "POOLNET_ROOT": str(root)}
    done = subprocess.run(
        (POOLNET, "init", *STATIC, "--yes"), check=False, capture_output=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    unit = (root / "etc/systemd/system/poolnet-api.service").read_text(encoding="utf-8")
    assert "ExecStart=/usr/local/lib/poolnet/bin/poolnet-api\n" in unit
    place = root / "usr/local/lib/poolnet"
    assert all(
        path.is_symlink() or path.stat().st_mode & 0o044 == 0o044 for path in (place, *place.rglob("*"))
    )
    script = (place / "bin/poolnet-api").read_text(encoding="utf-8")
    assert script.startswith("#!/usr/local/lib/poolnet/bin/python\n")
    code = "import poolnet.api.main as api, poolnet.hostd.main as hostd; print(api.__file__, hostd.__file__)"
    words = (str(place / "bin/python"), "-I", "-c", code)
    ran = subprocess.run(words, check=True, capture_output=True, text=True)
    assert all(Path(file).is_relative_to(place) for file in ran.stdout.split())
    assert (root / "usr/local/bin/xe").readlink() == Path("/usr/local/lib/poolnet/bin/xe")
