"""A host as it is installed: by `poolnet init`, its services run by systemd's units, with all that these forbid them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.systemd_machine import (
    ADDRESS,
    GATEWAY,
    NICS,
    NoContainer,
    SystemdMachine,
    patiently,
    systemd_machine,
)

pytestmark = pytest.mark.lab
BIN = Path(sys.executable).parent
HOSTD_TOML = "/etc/poolnet/hostd.toml"


class Host:
    """The installed host."""

    def __init__(self, machine: SystemdMachine, password: str) -> None:
        self.machine = machine
        self._password = password

    def xe(self, *words: str) -> str:
        """What `xe` prints on the host itself."""
        return self.machine.run("xe", *words).strip()

    def from_outside(self, *words: str, password: str = "") -> subprocess.CompletedProcess[str]:
        """`xe` on another machine, with the first user's password."""
        login = ("-s", ADDRESS, "-u", "root", "-pw", password or self._password)
        return self.machine.from_outside(str(BIN / "xe"), *login, *words)

    def main_pid(self, service: str) -> str:
        """The process of a service; `0` when it does not run."""
        return self.machine.run("systemctl", "show", "--property=MainPID", "--value", service).strip()

    def settled(self) -> bool:
        """Whether the management interface has what was configured, and the API says so to others."""
        answer = self.from_outside("pif-list", "management=true", "params=IP", "--minimal")
        route = self.machine.run("ip", "route", "show", "default")
        return answer.stdout.strip() == ADDRESS and f"via {GATEWAY} dev xenbr0" in route


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("a machine needs root")
    try:
        with systemd_machine(tmp_path_factory.mktemp("machine")) as machine:
            machine.run("ip", "address", "add", f"{ADDRESS}/24", "dev", NICS[0])
            machine.run("ip", "link", "set", NICS[0], "up")
            words = ("--management", NICS[0], "--nics", ",".join(NICS), "--gateway", GATEWAY, "--yes")
            told = machine.run(str(BIN / "poolnet"), "init", "--guests", "none", *words)
            [password] = re.findall(r"with the password (\S+)", told)
            configuration = machine.read(HOSTD_TOML)
            machine.write(HOSTD_TOML, configuration.replace('"system"', '"netdev"'))
            machine.run("systemctl", "start", "poolnet-api")
            one = Host(machine, password)
            patiently(one.settled, "the host did not come up")
            yield one
    except NoContainer as reason:
        pytest.skip(f"no container can be started here: {reason}")


def test_passwords_are_compared_and_the_server_stays(host: Host) -> None:
    api = host.main_pid("poolnet-api")
    assert host.from_outside("host-list", "--minimal").stdout.strip() == host.xe("host-list", "--minimal")
    refused = host.from_outside("host-list", password="another")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Authentication failed" in refused.stderr
    assert host.main_pid("poolnet-api") == api
    hashing = host.machine.run("ps", "-ww", "-o", "user:20=,ni=,args=", "--ppid", api)
    assert re.findall(r"^poolnet +19 .*-m poolnet\.api\.hashing$", hashing, re.MULTILINE)


def test_neither_daemon_needs_the_other_to_stay(host: Host) -> None:
    api, hostd = host.main_pid("poolnet-api"), host.main_pid("poolnet-hostd")
    host.machine.run("kill", "-9", hostd)
    patiently(lambda: host.main_pid("poolnet-hostd") not in ("0", hostd), "the host daemon stayed dead")
    patiently(host.settled, "the API did not find the new host daemon")
    assert host.main_pid("poolnet-api") == api
    host.machine.run("kill", "-9", api)
    patiently(lambda: host.main_pid("poolnet-api") not in ("0", api), "the API stayed dead")
    patiently(host.settled, "the API did not come back")


def test_a_broken_configuration_takes_no_service_with_it(host: Host) -> None:
    configuration, api = host.machine.read(HOSTD_TOML), host.main_pid("poolnet-api")
    try:
        host.machine.write(HOSTD_TOML, "backend =\n")
        assert not host.machine.tries("systemctl", "restart", "poolnet-hostd")
        assert host.from_outside("host-list", "--minimal").returncode == 0
    finally:
        host.machine.write(HOSTD_TOML, configuration)
    patiently(host.settled, "the host daemon did not start when it could")
    network = host.xe("network-create", "name-label=after")
    assert network in host.xe("network-list", "--minimal")
    assert host.main_pid("poolnet-api") == api


def test_the_host_daemon_writes_what_it_has_to_write(host: Host) -> None:
    pif = host.xe("pif-list", "management=true", "--minimal")
    address = (
        "mode=static",
        f"IP={ADDRESS}",
        "netmask=255.255.255.0",
        f"gateway={GATEWAY}",
        "DNS=192.0.2.53",
    )
    host.xe("pif-reconfigure-ip", f"uuid={pif}", *address)
    assert "nameserver 192.0.2.53" in host.machine.read("/etc/resolv.conf")
    for chosen, backend in (("bridge", "linuxbridge"), ("openvswitch", "openvswitch")):
        # A busy machine may need longer to be reached than a change has, which is taken back then.
        change = ("poolnet", "switch-network-backend", chosen)
        patiently(lambda: host.machine.tries(*change), f"{chosen} was not chosen")  # noqa: B023 - it ends before
        assert f'backend = "{backend}"' in host.machine.read(HOSTD_TOML)
        patiently(host.settled, f"the host was lost with {backend}")


def test_a_boot_brings_the_network_back(host: Host) -> None:
    network = host.xe("network-create", "name-label=vlan")
    pif = host.xe("pif-list", f"device={NICS[1]}", "--minimal")
    host.xe("vlan-create", f"network-uuid={network}", f"pif-uuid={pif}", "vlan=7")
    bridge = host.xe("network-param-get", f"uuid={network}", "param-name=bridge")
    host.machine.stop()
    host.machine.boot()
    patiently(host.settled, "the host did not come back")
    assert host.xe("pif-list", "VLAN=7", "params=currently-attached", "--minimal") == "true"
    assert host.machine.tries("ip", "link", "show", bridge)
    failed = host.machine.run("systemctl", "list-units", "--failed", "--plain", "--no-legend")
    assert "poolnet" not in failed


def test_a_database_server_runs_with_what_its_unit_allows(host: Host) -> None:
    """The cluster's server, which runs when three hosts have one; here it has a file of its own."""
    unit = host.machine.read("/etc/systemd/system/poolnet-db.service")
    service = unit.partition("[Service]")[2].partition("[Install]")[0]
    settings = [
        line for line in service.splitlines() if "=" in line and not line.startswith(("#", "Exec", "Restart"))
    ]
    script = (
        "ovsdb-tool create /run/poolnet/tried.db /usr/share/openvswitch/vswitch.ovsschema || exit 1;"
        "timeout 2 ovsdb-server --remote=punix:/run/poolnet/tried.sock --unixctl=/run/poolnet/tried.ctl"
        " /run/poolnet/tried.db; test $? = 124"
    )
    properties = [f"--property={line}" for line in settings]
    assert host.machine.tries("systemd-run", "--quiet", "--wait", *properties, "sh", "-c", script)
