from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostd.dhcp_lease import Lease, Lease6, as_leased, read_report, read_report6, reporter
from poolnet.hostnet.state import IpConfig, Ipv4Mode, Ipv6Mode

NOW_S = 1000.0
BOUND = {
    "reason": "BOUND",
    "poolnet_uptime": "990.50",
    "new_ip_address": "10.9.0.56",
    "new_subnet_cidr": "24",
    "new_subnet_mask": "255.255.255.0",
    "new_routers": "10.9.0.1 10.9.0.2",
    "new_domain_name_servers": "10.9.0.1 10.9.0.2 10.9.0.3 10.9.0.4",
    "new_domain_name": "example.org",
    "new_dhcp_lease_time": "120",
}
LEASE = Lease(
    address="10.9.0.56/24",
    routes=(("default", "10.9.0.1"),),
    dns_servers=("10.9.0.1", "10.9.0.2", "10.9.0.3"),
    dns_search=("example.org",),
    since_s=990.5,
    expires_s=1110.5,
)
ASKS = IpConfig(ipv4_mode=Ipv4Mode.DHCP)


def lease(now_s: float = NOW_S, **changes: str) -> Lease | None:
    """What a report with these values gives; "" leaves a value out."""
    values = {name: value for name, value in {**BOUND, **changes}.items() if value}
    return read_report("\0".join(f"{name}={value}" for name, value in values.items()).encode(), now_s)


def test_a_report_gives_a_lease() -> None:
    assert lease() == LEASE


@pytest.mark.parametrize("reason", ["RENEW", "REBIND", "REBOOT"])
def test_a_renewed_lease_is_one_as_well(reason: str) -> None:
    assert lease(reason=reason) == LEASE


@pytest.mark.parametrize("reason", ["NAK", "EXPIRE", "STOP", "PREINIT", ""])
def test_other_reports_give_none(reason: str) -> None:
    assert lease(reason=reason) is None


def test_a_lease_ends_with_its_time() -> None:
    assert lease(now_s=1110.4) is not None
    assert lease(now_s=1110.5) is None


@pytest.mark.parametrize("seconds", ["4294967295", ""])
def test_a_lease_may_hold_forever(seconds: str) -> None:
    endless = lease(now_s=1e9, new_dhcp_lease_time=seconds)
    assert endless is not None
    assert endless.expires_s is None


def test_a_report_from_before_the_boot_gives_nothing() -> None:
    assert lease(now_s=989.0) is None


def test_with_classless_routes_the_router_does_not_count() -> None:
    got = lease(new_classless_static_routes="10.0.0.0/8 10.9.0.7 0.0.0.0/0 10.9.0.9 192.0.2.0/24 10.9.0.9")
    assert got is not None
    assert got.routes == (("10.0.0.0/8", "10.9.0.7"), ("default", "10.9.0.9"), ("192.0.2.0/24", "10.9.0.9"))


@pytest.mark.parametrize(
    "changes",
    [
        {"new_routers": "192.0.2.1"},  # not on the link
        {"new_routers": "10.9.0.56"},  # the host itself
        {"new_routers": "gateway"},
        {"new_routers": ""},
        {"new_classless_static_routes": "10.9.0.0 10.9.0.1/33 odd"},
    ],
)
def test_gateways_that_cannot_be_are_left_out(changes: dict[str, str]) -> None:
    got = lease(NOW_S, **changes)
    assert got is not None
    assert got.routes == ()


@pytest.mark.parametrize("address", ["", "0.0.0.0", "10.9.0", "10.9.0.1 10.9.0.2", "127.0.0.1", "224.0.0.1"])
def test_what_is_no_address_is_no_lease(address: str) -> None:
    assert lease(new_ip_address=address) is None


@pytest.mark.parametrize("length", ["33", "-1", "x"])
def test_what_is_no_prefix_is_no_lease(length: str) -> None:
    assert lease(new_subnet_cidr=length) is None


def test_names_and_servers_from_the_network_cannot_write_more_than_that() -> None:
    got = lease(
        new_domain_search="ok.example bad;name\n$(id) also.ok",
        new_domain_name_servers="10.9.0.1\nsearch ::1 0.0.0.0",
    )
    assert got is not None
    assert (got.dns_search, got.dns_servers) == (("ok.example", "also.ok"), ("10.9.0.1",))


def test_garbage_gives_nothing() -> None:
    assert read_report(b"", NOW_S) is None
    assert read_report(b"\xff\0=\0reason", NOW_S) is None
    assert lease(poolnet_uptime="nan") is None
    assert lease(poolnet_uptime="") is None


def test_routes_and_dns_are_taken_only_where_they_may_be() -> None:
    static = replace(ASKS, ipv4_mode=Ipv4Mode.STATIC, ipv4_address="10.9.0.56/24")
    assert as_leased(ASKS, LEASE) == static
    everything = as_leased(
        replace(ASKS, dhcp_routes=True, dhcp_dns=True, routes=("192.0.2.0/24 via 10.9.0.5",)), LEASE
    )
    assert everything.ipv4_gateway == "10.9.0.1"
    assert everything.routes == ("192.0.2.0/24 via 10.9.0.5",)
    assert (everything.dns_servers, everything.dns_search) == (LEASE.dns_servers, LEASE.dns_search)


def test_without_a_lease_there_is_no_address() -> None:
    assert as_leased(replace(ASKS, dhcp_routes=True), None).ipv4_mode is Ipv4Mode.NONE


def test_the_reporter_keeps_what_gives_or_takes_a_lease(tmp_path: Path) -> None:
    directory = tmp_path / "it's here"
    directory.mkdir()
    (directory / "events").touch()
    program = tmp_path / "report"
    program.write_text(reporter(directory), encoding="utf-8")
    program.chmod(0o700)
    report = directory / "xenbr0.report"

    def event(**values: str) -> None:
        subprocess.run([program], env={"PATH": "/usr/bin:/bin", "interface": "xenbr0", **values}, check=True)

    event(reason="CARRIER")
    assert not report.exists()
    event(**{**BOUND, "new_domain_name": "two\nlines"})
    uptime_s = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    got = read_report(report.read_bytes(), uptime_s)
    assert got is not None
    assert (got.address, got.dns_search) == ("10.9.0.56/24", ("two", "lines"))
    assert (directory / "events").read_text(encoding="ascii") == "xenbr0\n"
    event(reason="NAK")
    assert read_report(report.read_bytes(), uptime_s) is None
    event(reason="STOPPED")
    assert b"reason=NAK" in report.read_bytes()


BOUND6 = {
    "reason": "BOUND6",
    "poolnet_uptime": "990.50",
    "new_dhcp6_ia_na1_ia_addr1": "fd00:0::16b",
    "new_dhcp6_ia_na1_ia_addr1_pltime": "60",
    "new_dhcp6_ia_na1_ia_addr1_vltime": "120",
    "new_dhcp6_name_servers": "fd00::53 fe80::1 nonsense",
    "new_dhcp6_domain_search": "six.example.org ;rm",
}
LEASE6 = Lease6(
    addresses=("fd00::16b/128",),
    dns_servers=("fd00::53",),
    dns_search=("six.example.org",),
    since_s=990.5,
    expires_s=1110.5,
)


def lease6(now_s: float = NOW_S, **changes: str) -> Lease6 | None:
    """What a report of IPv6 with these values gives; "" leaves a value out."""
    values = {name: value for name, value in {**BOUND6, **changes}.items() if value}
    return read_report6("\0".join(f"{name}={value}" for name, value in values.items()).encode(), now_s)


def test_a_report_of_ipv6_gives_a_lease_of_addresses_that_others_can_reach() -> None:
    assert lease6() == LEASE6
    assert lease6(reason="REBOOT6") == LEASE6
    for address in ("fe80::1", "ff02::1", "::", "::1", "10.0.0.1", "fd00::1%eth0", "x"):
        assert lease6(new_dhcp6_ia_na1_ia_addr1=address) is None
    for reason in ("BOUND", "EXPIRE6", "STOP6", ""):
        assert lease6(reason=reason) is None


def test_each_address_of_ipv6_has_its_own_end() -> None:
    more = {"new_dhcp6_ia_na2_ia_addr1": "fd00::2", "new_dhcp6_ia_na2_ia_addr1_vltime": "4294967295"}
    both = lease6(NOW_S, **more)
    assert both is not None
    assert (both.addresses, both.expires_s) == (("fd00::16b/128", "fd00::2/128"), 1110.5)
    later = lease6(1110.5, **more)
    assert later is not None
    assert (later.addresses, later.expires_s) == (("fd00::2/128",), None)
    assert lease6(1110.5) is None
    assert lease6(900.0) is None  # of an earlier boot


def test_what_is_configured_beside_a_lease_stays() -> None:
    ip = IpConfig(
        ipv4_mode=Ipv4Mode.STATIC,
        ipv4_address="10.0.0.1/24",
        ipv6_mode=Ipv6Mode.DHCP,
        dns_servers=("10.0.0.53",),
        dhcp_dns=True,
    )
    got = as_leased(ip, None, LEASE6)
    assert (got.ipv4_address, got.ipv6_addresses) == ("10.0.0.1/24", LEASE6.addresses)
    assert (got.dns_servers, got.dns_search) == (("10.0.0.53", "fd00::53"), ("six.example.org",))
    assert as_leased(got, None, None) == replace(got, ipv6_addresses=())
    assert as_leased(replace(ip, dhcp_dns=False), None, LEASE6).dns_servers == ("10.0.0.53",)


def test_static_routes_are_there_where_the_lease_reaches_their_gateway() -> None:
    routes = ("198.51.100.0/24 via 10.9.0.254", "203.0.113.0/24 via 10.8.0.254")
    assert as_leased(replace(ASKS, routes=routes), LEASE).routes == routes[:1]
