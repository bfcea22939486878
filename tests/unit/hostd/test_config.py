"""The configuration is read strictly: a typing mistake is an error, not a default."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolnet.hostd.config import ConfigError, Paths, read_config
from poolnet.hostd.identity import boot_id
from poolnet.hostd.nics import is_nic
from poolnet.hostnet.state import Ipv4Mode

GOOD = """
datapath_type = "netdev"
nics = ["eth*", "eno1"]
guest_runtime = "netns"
[management]
nic = "eth0"
vlan = 7
mode = "static"
address = "192.0.2.5/24"
gateway = "192.0.2.1"
dns = ["192.0.2.53"]
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "hostd.toml"
    path.write_text(text)
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, GOOD))
    assert config.nics == ("eth*", "eno1")
    assert config.management is not None
    management = config.management.management()
    assert (management.nic, management.vlan_tag) == ("eth0", 7)
    assert (management.ip.ipv4_mode, management.ip.ipv4_address) == (Ipv4Mode.STATIC, "192.0.2.5/24")
    assert management.ip.dns_servers == ("192.0.2.53",)


def test_libvirt_and_its_table(tmp_path: Path) -> None:
    text = 'guest_runtime = "libvirt"\n[libvirt]\nhypervisor = "qemu"\ndomains = ["web-*"]\n'
    libvirt = read_config(written(tmp_path, text)).libvirt
    assert (libvirt.uri, libvirt.hypervisor, libvirt.domains) == ("qemu:///system", "qemu", ("web-*",))


def test_a_watchdog_is_a_device(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, '[ha]\nwatchdog = "/dev/watchdog"')).ha.watchdog == "/dev/watchdog"
    assert read_config(written(tmp_path, "")).ha.watchdog == ""
    with pytest.raises(ConfigError, match="no device below"):
        read_config(written(tmp_path, '[ha]\nwatchdog = "watchdog"'))


def test_an_empty_file_touches_no_nic(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, ""))
    assert config.nics == ()
    assert not is_nic("eth0", config.nics)


def test_patterns_match_whole_names() -> None:
    assert is_nic("eth10", ["eth*"])
    assert not is_nic("xeth0", ["eth*"])
    assert not is_nic("ETH0", ["eth*"])


@pytest.mark.parametrize(
    "text",
    [
        'nic = ["eth0"]',
        'nics = "eth0"',
        'backend = "magic"',
        'datapath_type = "kernel"',
        "nics = [1]",
        "=",
        GOOD.replace("vlan = 7", "vlan = 4095"),
        GOOD.replace("192.0.2.5/24", "192.0.2.500/24"),
        GOOD.replace('"192.0.2.1"', '"the router"'),
        GOOD.replace("192.0.2.53", "dns.example"),
        GOOD.replace('nic = "eth0"\n', ""),
        GOOD + 'colour = "red"\n',
        '[libvirt]\nhypervisor = "magic"\n',
    ],
)
def test_what_is_wrong_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read_config(written(tmp_path, text))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_config(tmp_path / "nothing")


def test_a_root_is_put_before_every_path_but_the_switchs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOLNET_ROOT", str(tmp_path))
    monkeypatch.delenv("OVS_RUNDIR", raising=False)
    paths = Paths()
    ours = (paths.config, paths.socket, paths.state_dir, paths.resolv_conf, paths.hostname)
    assert all(path.is_relative_to(tmp_path) for path in ours)
    assert paths.switch_run_dir == Path("/run/openvswitch")


def test_the_boot_id_changes_when_the_run_directory_is_emptied(tmp_path: Path) -> None:
    first = boot_id(tmp_path)
    assert boot_id(tmp_path) == first
    (tmp_path / "boot-id").unlink()
    assert boot_id(tmp_path) != first
