"""スイッチポートロックの設定: only traffic of given addresses is let through; addresses are added and removed."""

from __future__ import annotations

import pytest

from tests.manual.console import TARGET, Console

pytestmark = pytest.mark.lab

LOCK = "xe vif-param-set uuid=vif-uuid locking-mode=locked"
ONE, TWO, THREE = "10.88.0.31", "10.88.0.32", "10.88.0.33"


def source(console: Console, name: str, address: str) -> bool:
    """Whether a guest reaches the switch from one of its addresses."""
    words = ("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-I", address)
    said = console.guest(name, *words, _target(address), check=False)
    return " 0% packet loss" in said


def _target(address: str) -> str:
    return "fd88::1" if ":" in address else TARGET


def test_addresses_are_set_added_and_removed(console: Console) -> None:
    network = console.network_of("eth1")
    with console.vm("locked", network, f"{ONE}/24") as vif, console.answering_outside():
        for address in (TWO, THREE):
            console.guest("locked", "ip", "address", "add", f"{address}/24", "dev", "eth0")
        listed = console.type("xe vif-list")
        assert vif in listed
        console.talks("locked", TARGET)
        console.type(LOCK, vif_uuid=vif)
        assert not source(console, "locked", ONE), "no address is allowed yet"
        console.type(
            "xe vif-param-set uuid=vif-uuid ipv4-allowed=comma separated list of ipv4-addresses",
            vif_uuid=vif,
            comma_separated_list_of_ipv4_addresses=f"{ONE},{TWO}",
        )
        assert [source(console, "locked", each) for each in (ONE, TWO, THREE)] == [True, True, False]
        console.type(
            "xe vif-param-add uuid=vif-uuid ipv4-allowed=comma separated list of ipv4-addresses",
            vif_uuid=vif,
            comma_separated_list_of_ipv4_addresses=THREE,
        )
        assert [source(console, "locked", each) for each in (ONE, TWO, THREE)] == [True, True, True]
        console.type(
            "xe vif-param-remove uuid=vif-uuid ipv4-allowed=comma separated list of ipv4-addresses",
            vif_uuid=vif,
            comma_separated_list_of_ipv4_addresses=f"{ONE},{TWO}",
        )
        assert console.param("vif", vif, "ipv4-allowed") == THREE
        assert [source(console, "locked", each) for each in (ONE, TWO, THREE)] == [False, False, True]


def test_addresses_of_ipv6(console: Console) -> None:
    network = console.network_of("eth1")
    own = ["fd88::31", "fd88::32"]
    values = "comma_separated_list_of_ipv6_addresses"
    with console.vm("locked6", network, f"{ONE}/24") as vif, console.answering_outside(address="fd88::1/64"):
        for address in own:
            console.guest("locked6", "ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad")
        console.type(LOCK, vif_uuid=vif)
        words = "xe vif-param-set uuid=vif-uuid ipv6-allowed=comma separated list of ipv6-addresses"
        console.type(words, vif_uuid=vif, **{values: own[0]})
        assert [source(console, "locked6", each) for each in own] == [True, False]
        words = "xe vif-param-add uuid=vif-uuid ipv6-allowed=comma separated list of ipv6-addresses"
        console.type(words, vif_uuid=vif, **{values: own[1]})
        assert [source(console, "locked6", each) for each in own] == [True, True]
        words = "xe vif-param-remove uuid=vif-uuid ipv6-allowed=comma separated list of ipv6-addresses"
        console.type(words, vif_uuid=vif, **{values: own[0]})
        assert [source(console, "locked6", each) for each in own] == [False, True]


def test_a_vif_is_locked_before_its_vm_starts(console: Console) -> None:
    network = console.network_of("eth1")
    vm = console.xe("vm-create", "name-label=early")
    words = (f"vm-uuid={vm}", f"network-uuid={network}", "device=0")
    vif = console.xe("vif-create", *words)
    console.type(LOCK, vif_uuid=vif)
    console.xe("vif-param-set", f"uuid={vif}", f"ipv4-allowed={ONE}")
    console.xe("vm-start", f"uuid={vm}")
    for address in (ONE, TWO):
        console.guest("early", "ip", "address", "add", f"{address}/24", "dev", "eth0")
    with console.answering_outside():
        assert [source(console, "early", each) for each in (ONE, TWO)] == [True, False]
    console.xe("vm-uninstall", f"uuid={vm}", "force=true")
