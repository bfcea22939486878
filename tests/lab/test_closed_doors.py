"""What a stranger on the management network, a guest, and a member of the pool can reach of a host; and what is kept secret."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from poolnet.lab.machine import entering
from poolnet.pool.authority import PoolFiles, new_authority, own_authority
from poolnet.pool.authority import pem_of as pem_of_certificate
from tests.lab import survival
from tests.lab.pools import host_uuid, live, pif
from tests.lab.running import RunningLab, running_lab
from tests.unit.api.test_certificates import CA, issued, key, pem_of
from tests.unit.api.test_trust import revocation_list
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

HOST, MEMBER = "host1", "host2"
SCAN = """
import asyncio, json, sys
async def main(address):
    found = []
    gate = asyncio.Semaphore(400)
    async def knock(port):
        async with gate:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 3.5)  # twice sent again
            except (OSError, TimeoutError):
                return
            writer.close()
            found.append(port)
    await asyncio.gather(*map(knock, json.loads(sys.argv[2])))
    print(json.dumps(sorted(found)))
asyncio.run(main(sys.argv[1]))
"""
UDP_SCAN = """
import asyncio, json, sys
class Knock(asyncio.DatagramProtocol):
    def __init__(self):
        self.closed = asyncio.get_running_loop().create_future()
    def error_received(self, error):
        if not self.closed.done():
            self.closed.set_result(None)
async def main(address):
    loop, silent = asyncio.get_running_loop(), []
    gate = asyncio.Semaphore(50)
    async def knock(port):
        async with gate:
            transport, knocking = await loop.create_datagram_endpoint(Knock, remote_addr=(address, port))
            try:
                for _ in range(20):  # the kernel says so of a thousand a second at most, for all ports
                    transport.sendto(b"?")
                    await asyncio.wait([knocking.closed], timeout=0.3)
                    if knocking.closed.done():
                        return
                silent.append(port)
            finally:
                transport.abort()
    await asyncio.gather(*map(knock, json.loads(sys.argv[2])))
    print(json.dumps(sorted(silent)))
asyncio.run(main(sys.argv[1]))
"""
UDP_OF_OTHERS = (
    1900,
    4500,
    4789,
    5353,
    6081,
    8472,
)  # SSDP, IPsec, VXLAN, mDNS, Geneve, VXLAN as Linux first had it
PEER = """
import ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.load_verify_locations(sys.argv[1] + "/ca.crt")
context.load_cert_chain(sys.argv[1] + "/host.crt", sys.argv[1] + "/host.key")
import json, socket
connection = context.wrap_socket(socket.create_connection((sys.argv[2], 9443), 5))
body = json.dumps(json.loads(sys.argv[3])).encode()
connection.sendall(len(body).to_bytes(4, "big") + body)
head = connection.recv(4)
print(connection.recv(int.from_bytes(head, "big")).decode() if head else "")
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningLab]:
    with running_lab(hosts=2, pool=True) as one:
        yield one


def scan(lab: RunningLab, place: str, address: str) -> list[int]:
    """The open TCP ports of an address, seen from there: of all low ones, and of all on which anything listens."""
    listening = lab.run(HOST, "ss", "-Hltn").splitlines()
    ports = {*range(1, 1025), 9443, 10809, *(int(line.split()[3].rpartition(":")[2]) for line in listening)}
    found: list[int] = json.loads(
        lab.run(place, sys.executable, "-c", SCAN, address, json.dumps(sorted(ports)))
    )
    return found


def test_a_port_scan_shows_exactly_the_documented_ports(pool: RunningLab) -> None:
    address = pool.lab.host(HOST).address
    assert scan(pool, "switch", address) == [80, 443, 9443]
    uuid = host_uuid(pool, HOST)
    pool.xe(HOST, "host-param-set", f"uuid={uuid}", "https-only=true")
    assert scan(pool, "switch", address) == [443, 9443]
    pool.xe(HOST, "host-param-set", f"uuid={uuid}", "https-only=false")


def udp_ports(lab: RunningLab) -> set[int]:
    """All low UDP ports, those of others, and those that somebody has."""
    listening = lab.run(HOST, "ss", "-Hlun").splitlines()
    bound = (int(line.split()[3].rpartition(":")[2]) for line in listening)
    return {*range(1, 1025), *UDP_OF_OTHERS, *bound}


def scan_udp(lab: RunningLab, place: str, address: str, ports: set[int]) -> list[int]:
    """Those UDP ports of an address that do not say, by ICMP, that they are closed."""
    before = lab.run(HOST, "sysctl", "-n", "net.ipv4.icmp_ratelimit").strip()
    lab.run(HOST, "sysctl", "-q", "net.ipv4.icmp_ratelimit=0")  # else it says so once a second
    try:
        found: list[int] = json.loads(
            lab.run(place, sys.executable, "-c", UDP_SCAN, address, json.dumps(sorted(ports)))
        )
    finally:
        lab.run(HOST, "sysctl", "-q", f"net.ipv4.icmp_ratelimit={before}")
    return found


def test_a_scan_shows_exactly_the_documented_udp_ports(pool: RunningLab) -> None:
    address = pool.lab.host(HOST).address
    assert scan_udp(pool, "switch", address, udp_ports(pool)) == []
    server = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 1900)); input()"
    )
    words = (*entering(pool.lab.host(HOST).pid), sys.executable, "-c", server)
    other = subprocess.Popen(words, stdin=subprocess.PIPE)
    try:
        eventually(lambda: ":1900" in pool.run(HOST, "ss", "-Hlun"), "somebody listens")
        assert scan_udp(pool, "switch", address, {*UDP_OF_OTHERS}) == [1900], "the scan finds what is open"
    finally:
        other.communicate(b"\n")


def test_other_interfaces_and_guests_do_not_lead_to_the_api(pool: RunningLab) -> None:
    storage = pif(pool, HOST, "eth1")
    address = ("mode=static", "IP=10.78.0.1", "netmask=255.255.255.0")
    pool.xe(HOST, "pif-reconfigure-ip", f"uuid={storage}", *address)
    pool.run("switch", "ip", "address", "add", "10.78.0.9/24", "dev", "switch0")
    network = pool.xe(HOST, "pif-list", f"uuid={storage}", "params=network-uuid", "--minimal")
    try:
        assert scan(pool, "switch", "10.78.0.1") == []
        pool.start_vm(HOST, "tenant", network, "10.78.0.7/24")
        management = pool.lab.host(HOST).address
        pool.guest("tenant", "ip", "route", "add", f"{management}/32", "via", "10.78.0.1")
        knock = f"timeout 2 bash -c '</dev/tcp/{management}/443' && echo in; true"
        assert pool.pings("tenant", "10.78.0.1")
        assert "in" not in pool.guest("tenant", "bash", "-c", knock)
    finally:
        pool.run("switch", "ip", "address", "del", "10.78.0.9/24", "dev", "switch0")
        pool.xe(HOST, "vm-uninstall", "vm=tenant", "--force")
        pool.xe(HOST, "pif-reconfigure-ip", f"uuid={storage}", "mode=none")


def test_the_rules_come_back_and_leave_others_alone(pool: RunningLab) -> None:
    address = pool.lab.host(HOST).address
    pool.run(
        HOST, "nft", "add table inet mine; add chain inet mine input { type filter hook input priority 5; }"
    )
    pool.run(HOST, "nft", "add rule inet mine input tcp dport 80 drop")
    pool.run(HOST, "nft", "delete table inet poolnet")
    eventually(lambda: "poolnet: API" in pool.run(HOST, "nft", "list ruleset"), "the table is put back")
    assert scan(pool, "switch", address) == [443, 9443], "what the user's own table stops stays stopped"
    assert "chain input" in pool.run(HOST, "nft", "list table inet mine")
    pool.run(HOST, "nft", "delete table inet mine")
    survival.reboot(pool, HOST, hard=False)
    survival.wait_until_served(pool, HOST)
    assert scan(pool, "switch", address) == [80, 443, 9443]
    eventually(lambda: live(pool) == {HOST, MEMBER}, "the member is back")


def test_a_certificate_is_installed_on_a_member_while_its_clients_go_on(
    pool: RunningLab, tmp_path: Path
) -> None:
    api = survival.Api(pool, HOST)
    token = api.call("event.from", ["pool"], "", 1.0)["token"]
    hanging = survival.at_once_later(lambda: api.call("event.from", ["pool"], token, 20.0))
    now = dt.datetime.now(dt.UTC)
    begin, end = now - dt.timedelta(days=1), now + dt.timedelta(days=20)
    files = {"certificate": issued("host", key(), CA, start=begin, end=end), "private-key": pem_of(key())}
    words = []
    for name, text in files.items():
        path = tmp_path / f"{name}.pem"
        path.write_text(text)
        words.append(f"{name}={path}")
    for host in (HOST, MEMBER):
        pool.xe(HOST, "host-server-certificate-install", f"host={host}", *words)
        shown = pool.xe(HOST, "host-get-server-certificate", f"uuid={host_uuid(pool, host)}")
        assert shown.split() == files["certificate"].split()
        said = pool.run(
            "switch",
            "sh",
            "-c",
            f"openssl s_client -connect {pool.lab.host(host).address}:443 </dev/null 2>&1",
        )
        assert "CN = host" in said or "CN=host" in said
    assert len(pool.xe(HOST, "certificate-list", "type=host", "--minimal").split(",")) == 2
    assert not hanging.done(), "a poll that was under way goes on"
    pool.xe(HOST, "pool-param-set", f"uuid={pool.xe(HOST, 'pool-list', '--minimal')}", "name-label=secured")
    assert hanging.result(30.0)["events"]
    eventually(
        lambda: "HOST_SERVER_CERTIFICATE_EXPIRING_30" in pool.xe(HOST, "message-list", "params=name"),
        "an alert says that it ends",
    )
    pool.xe(MEMBER, "host-emergency-reset-server-certificate")
    pool.xe(HOST, "host-reset-server-certificate", f"host={HOST}")
    for host in (HOST, MEMBER):
        uuid = host_uuid(pool, host)
        assert (
            pool.xe(HOST, "host-get-server-certificate", f"uuid={uuid}").split()
            != files["certificate"].split()
        )
    before = pool.run(MEMBER, "cat", "/var/lib/poolnet/api/pool/host.crt")
    pool.xe(HOST, "host-refresh-server-certificate", f"host={MEMBER}")
    assert pool.run(MEMBER, "cat", "/var/lib/poolnet/api/pool/host.crt") != before
    assert live(pool) == {HOST, MEMBER}


def test_a_members_certificate_does_not_speak_for_another_host(pool: RunningLab) -> None:
    def asked(opening: str) -> str:
        """What the member's own certificate gets at its own door, and so for nobody else's uuid."""
        place = "/var/lib/poolnet/api/pool"
        return pool.run(
            MEMBER, sys.executable, "-c", PEER, place, pool.lab.host(MEMBER).address, opening, check=False
        )

    for opening in ('{"type": "OpenHostd"}', '{"type": "Leave"}', '{"type": "Certify", "action": "reset"}'):
        assert '"Denied"' in asked(opening), opening
    assert live(pool) == {HOST, MEMBER}


def console_works(pool: RunningLab, host: str) -> bool:
    """Whether a member's console reaches the coordinator."""
    return pool.run(host, "xe", "host-list", "--minimal", check=False).strip() != ""


def test_a_member_whose_certificate_is_revoked_is_out_until_the_list_is_removed(
    pool: RunningLab, tmp_path: Path
) -> None:
    place = "var-lib/poolnet/api/pool"
    files = PoolFiles(pool.lab.directory / HOST / place)
    member = x509.load_pem_x509_certificate((pool.lab.directory / MEMBER / place / "host.crt").read_bytes())
    path = tmp_path / "members.crl"
    path.write_text(revocation_list(own_authority(files), member.serial_number))
    assert console_works(pool, MEMBER)
    pool.xe(HOST, "pool-crl-install", f"filename={path}")
    assert pool.xe(HOST, "pool-crl-list") == "members.crl"
    eventually(lambda: not console_works(pool, MEMBER), "the member is out")
    pool.xe(HOST, "pool-crl-uninstall", "name=members.crl")
    eventually(lambda: console_works(pool, MEMBER), "the member is back")
    ca = tmp_path / "site.pem"
    ca.write_bytes(pem_of_certificate(new_authority("site", dt.datetime.now(dt.UTC))[0]))
    pool.xe(HOST, "pool-install-ca-certificate", f"filename={ca}")
    pool.xe(HOST, "pool-certificate-sync")
    kept = (pool.lab.directory / MEMBER / place / "trusted.json").read_text()
    assert "site.pem" in kept
    assert pool.xe(MEMBER, "pool-certificate-list") == "site.pem"
    assert pool.xe(HOST, "certificate-list", "type=ca", "params=name", "--minimal") == "site.pem"
    pool.xe(HOST, "pool-uninstall-ca-certificate", "name=site.pem")
    install = ("pool-install-trusted-certificate", f"filename={ca}")
    pool.xe(MEMBER, *install, "ca=false", "purpose=ldaps,licensing")
    pinned = ("certificate-list", "type=pinned", "params=purpose")
    assert pool.xe(HOST, *pinned, "--minimal") == "ldaps; licensing"
    pool.xe(HOST, "pool-certificate-sync")
    kept = json.loads((pool.lab.directory / MEMBER / place / "trusted.json").read_text())
    uuid = pool.xe(HOST, "certificate-list", "type=pinned", "--minimal")
    assert kept["certificates"][uuid]["purpose"] == ["ldaps", "licensing"]
    pool.xe(HOST, "pool-uninstall-trusted-certificate", f"certificate-uuid={uuid}")
    assert pool.xe(HOST, *pinned, "--minimal") == ""
    eventually(lambda: live(pool) == {HOST, MEMBER}, "both are heard")


def test_that_a_member_checks_no_certificates_is_told_to_everybody(pool: RunningLab) -> None:
    def says(field: str) -> str:
        return pool.xe(HOST, "host-list", f"name-label={MEMBER}", f"params={field}", "--minimal")

    pool.xe(HOST, "pool-enable-tls-verification")
    assert says("tls-verification-enabled") == "true"
    pool.xe(MEMBER, "host-emergency-disable-tls-verification")
    eventually(lambda: says("tls-verification-enabled") == "false", "the coordinator hears of it")
    assert "TLS_VERIFICATION_EMERGENCY_DISABLED" in pool.xe(HOST, "message-list", "params=name")
    survival.kill(pool, MEMBER, "poolnet-api")
    eventually(lambda: console_works(pool, MEMBER), "the member is back")
    assert says("tls-verification-enabled") == "false", "a restart does not end it"
    pool.xe(MEMBER, "host-emergency-reenable-tls-verification")
    eventually(lambda: says("tls-verification-enabled") == "true", "it checks again")
    assert "TLS_VERIFICATION_EMERGENCY_DISABLED" not in pool.xe(HOST, "message-list", "params=name")


def test_the_pool_secret_is_changed_on_all_hosts(pool: RunningLab) -> None:
    place = "var-lib/poolnet/api/pool/secret"
    paths = [pool.lab.directory / host / place for host in (HOST, MEMBER)]
    old = {path.read_text() for path in paths}
    survival.Api(pool, HOST).call("pool.rotate_secret")
    eventually(
        lambda: not {path.read_text() for path in paths} & old, "all hosts have another secret than before"
    )
    assert len({path.read_text() for path in paths}) == 1
    pool.xe(MEMBER, "pool-sync-database")


def test_the_log_says_which_console_it_was(pool: RunningLab) -> None:
    pool.xe(MEMBER, "network-create", "name-label=from-the-member")
    said = pool.run(HOST, "poolnet", "audit", "show")
    (record,) = (json.loads(line)["entry"] for line in said.splitlines() if "from-the-member" in line)
    assert record["address"] == f"console of {host_uuid(pool, MEMBER)}"


def test_no_secret_is_in_logs_process_lists_tasks_or_the_audit_log(pool: RunningLab) -> None:
    api = survival.Api(pool, HOST)
    marks = ["planted-password-1", "planted-password-2"]
    api.session = ""
    with pytest.raises(survival.Refused, match="SESSION_AUTHENTICATION_FAILED"):
        api.call("session.login_with_password", "root", marks[0])
    network = pool.xe(HOST, "network-list", "--minimal").split(",")[0]
    pool.xe(HOST, "network-param-set", f"uuid={network}", f"other-config:my-password={marks[1]}")
    directory = pool.lab.directory
    marks.append((directory / HOST / "var-lib/poolnet/api/pool/secret").read_text())
    marks.append(pool.lab.password)
    marks += [
        line
        for name in ("pool/ca.key", "pool/host.key", "tls/rsa.key", "tls/ec.key")
        for line in (directory / HOST / "var-lib/poolnet/api" / name).read_text().splitlines()[1:2]
    ]
    users = (directory / HOST / "var-lib/poolnet/api/users.toml").read_text()
    marks.append(users.split('"')[1])
    assert len(marks) == 9
    seen = pool.xe(HOST, "task-list", "params=all")
    seen += subprocess.run(("ps", "-eo", "args", "-ww"), check=True, capture_output=True, text=True).stdout
    for host in (HOST, MEMBER):
        seen += pool.run(host, "poolnet", "audit", "show")
        for log in (directory / host / "var-log").glob("*.log"):
            seen += log.read_text(encoding="utf-8", errors="replace")
    assert [mark for mark in marks if mark in seen] == []
    for host in (HOST, MEMBER):
        assert (directory / host / "var-lib/poolnet/api").stat().st_mode & 0o777 == 0o700
        for path in (directory / host / "var-lib/poolnet/api").rglob("*"):
            if path.is_file() and path.suffix not in (".crt", ".lock") and path.name != "host-uuid":
                assert path.stat().st_mode & 0o077 == 0, path


def test_management_off_closes_every_remote_door(pool: RunningLab) -> None:
    pool.xe(HOST, "pool-eject", f"host-uuid={host_uuid(pool, MEMBER)}", "--force")
    address, uplink = pool.lab.host(HOST).address, pif(pool, HOST, "eth0")
    assert scan(pool, "switch", address) == [80, 443, 9443]
    pool.xe(HOST, "host-management-disable")
    eventually(lambda: scan(pool, "switch", address) == [], "no door is open")
    assert pool.xe(HOST, "host-list", "params=address", "--minimal") == "", "the console works"
    survival.kill(pool, HOST, "poolnet-api")
    eventually(
        lambda: pool.run(HOST, "xe", "host-list", "--minimal", check=False) != "", "the server is back"
    )
    assert scan(pool, "switch", address) == []
    pool.xe(HOST, "host-management-reconfigure", f"pif-uuid={uplink}")
    eventually(lambda: scan(pool, "switch", address) == [80, 443, 9443], "the doors are open again")
