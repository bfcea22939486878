"""`xe audit-undo` restores what was there before a recorded change, exactly; what is in its way, it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from poolnet.db.shape import SHAPES
from poolnet.hostnet.state import HostNetwork
from tests.in_process import InProcess, with_server
from tests.unit.api.test_cli_calls import xe


async def ok(server: InProcess, *words: str) -> str:
    done = await xe(server, *words)
    assert done.code == 0, (words, done.err)
    return done.out.strip()


async def last_entry(server: InProcess) -> int:
    await server.audit_log.flush()
    return server.audit_log.head.records


def state(server: InProcess) -> tuple[dict[Any, dict[str, Any]], HostNetwork]:
    """Every durable field of every object, and the network that the host has."""
    rows = {
        row.ref: {decl.name: getattr(row, decl.attribute) for decl in shape.durable}
        for cls, shape in SHAPES.items()
        if shape.durable
        for row in server.database.view.all(cls)
    }
    return rows, server.host.network


async def undone(server: InProcess, *words: str) -> None:
    """Does something, takes it back, and looks whether all is as it was; then once more, there and back."""
    before = state(server)
    await ok(server, *words)
    after = state(server)
    assert after != before, words
    entry = await last_entry(server)
    await ok(server, "audit-undo", f"entry={entry}")
    assert state(server) == before, words
    await ok(server, "audit-undo", f"entry={await last_entry(server)}")
    assert state(server) == after, words
    await ok(server, "audit-undo", f"entry={await last_entry(server)}")
    assert state(server) == before, words


async def pif(server: InProcess, device: str) -> str:
    return await ok(server, "pif-list", f"device={device}", "--minimal")


async def network(server: InProcess, name: str = "n") -> str:
    return await ok(server, "network-create", f"name-label={name}")


async def vif(server: InProcess, device: str = "0") -> str:
    vm = await ok(server, "vm-create", "name-label=vm")
    return await ok(
        server, "vif-create", f"vm-uuid={vm}", f"network-uuid={await network(server)}", f"device={device}"
    )


async def networks(server: InProcess) -> None:
    await undone(server, "network-create", "name-label=fresh")
    made = await network(server)
    await undone(server, "network-param-set", f"uuid={made}", "name-label=other")
    await undone(server, "network-param-set", f"uuid={made}", "MTU=9000")
    await undone(server, "network-param-set", f"uuid={made}", "default-locking-mode=disabled")
    await undone(server, "network-destroy", f"uuid={made}")


async def other_config(server: InProcess) -> None:
    made = await network(server)
    await undone(server, "network-param-set", f"uuid={made}", "other-config:a=1")
    await ok(server, "network-param-set", f"uuid={made}", "other-config:a=1")
    await undone(server, "network-param-remove", f"uuid={made}", "param-name=other-config", "param-key=a")


async def vlans(server: InProcess) -> None:
    create = (
        "vlan-create",
        f"pif-uuid={await pif(server, 'eth1')}",
        "vlan=7",
        f"network-uuid={await network(server)}",
    )
    await undone(server, *create)
    await ok(server, *create)
    await undone(server, "vlan-destroy", f"uuid={await ok(server, 'vlan-list', '--minimal')}")


async def bonds(server: InProcess) -> None:
    uplinks = f"pif-uuids={await pif(server, 'eth0')},{await pif(server, 'eth1')}"
    create = ("bond-create", f"network-uuid={await network(server)}", uplinks, "mode=active-backup")
    await undone(server, *create)
    bond = await ok(server, *create)
    await undone(server, "bond-set-mode", f"uuid={bond}", "mode=balance-slb")
    await undone(server, "bond-destroy", f"uuid={bond}")


async def vifs(server: InProcess) -> None:
    vm = await ok(server, "vm-create", "name-label=vm")
    create = ("vif-create", f"vm-uuid={vm}", f"network-uuid={await network(server)}", "device=0")
    await undone(server, *create)
    made = await ok(server, *create)
    await undone(server, "vif-destroy", f"uuid={made}")
    await ok(server, "vm-start", f"uuid={vm}")
    before = state(server)
    await ok(server, "vif-unplug", f"uuid={made}")
    await ok(server, "audit-undo", f"entry={await last_entry(server)}")
    assert state(server) == before


async def locks(server: InProcess) -> None:
    made = await vif(server)
    await undone(server, "vif-param-set", f"uuid={made}", "locking-mode=locked")
    await undone(server, "vif-param-set", f"uuid={made}", "ipv4-allowed=10.0.0.1,10.0.0.2")
    await undone(server, "vif-param-add", f"uuid={made}", "param-name=ipv6-allowed", "param-key=fd00::1")


async def ip_configuration(server: InProcess) -> None:
    uplink = await pif(server, "eth1")
    static = ("IP=198.51.100.4", "netmask=255.255.255.0", "gateway=198.51.100.1", "DNS=198.51.100.53")
    await undone(server, "pif-reconfigure-ip", f"uuid={uplink}", "mode=static", *static)
    await undone(server, "pif-reconfigure-ip", f"uuid={uplink}", "mode=dhcp")
    await undone(server, "pif-reconfigure-ipv6", f"uuid={uplink}", "mode=static", "IPv6=fd00::4/64")


async def names(server: InProcess) -> None:
    host = await ok(server, "host-list", "--minimal")
    await undone(server, "host-set-hostname-live", f"host-uuid={host}", "host-name=elsewhere")
    assert server.host.hostname == "host1"


async def names_and_tags(server: InProcess) -> None:
    host, pool = await ok(server, "host-list", "--minimal"), await ok(server, "pool-list", "--minimal")
    made = await network(server)
    for kind, uuid in (("host", host), ("pool", pool), ("network", made)):
        await undone(server, f"{kind}-param-set", f"uuid={uuid}", "name-label=called otherwise")
        await undone(server, f"{kind}-param-set", f"uuid={uuid}", "name-description=said otherwise")
        await undone(server, f"{kind}-param-set", f"uuid={uuid}", "other-config:a=1")
        await undone(server, f"{kind}-param-add", f"uuid={uuid}", "param-name=tags", "param-key=t")


async def doors(server: InProcess) -> None:
    host, made = await ok(server, "host-list", "--minimal"), await network(server)
    await undone(server, "host-param-set", f"uuid={host}", "https-only=true")
    await undone(server, "network-param-add", f"uuid={made}", "param-name=purpose", "param-key=nbd")


async def tunnels(server: InProcess) -> None:
    transport = await pif(server, "eth1")
    await ok(
        server,
        "pif-reconfigure-ip",
        f"uuid={transport}",
        "mode=static",
        "IP=198.51.100.4",
        "netmask=255.255.255.0",
    )
    for protocol in ("gre", "vxlan"):
        create = (
            "tunnel-create",
            f"pif-uuid={transport}",
            f"network-uuid={await network(server)}",
            f"protocol={protocol}",
        )
        await undone(server, *create)
        await ok(server, *create)
        tunnel = await ok(server, "tunnel-list", "--minimal")
        await undone(server, "tunnel-destroy", f"uuid={tunnel}")
        await ok(server, "tunnel-destroy", f"uuid={tunnel}")


async def pifs(server: InProcess) -> None:
    uplink = await pif(server, "eth1")
    await undone(server, "pif-param-set", f"uuid={uplink}", "disallow-unplug=true")
    before = state(
        server
    )  # the key counts from the next plug on, so that there is more to see the second time
    await ok(server, "pif-param-set", f"uuid={uplink}", "other-config:ethtool-gro=off")
    await ok(server, "audit-undo", f"entry={await last_entry(server)}")
    assert state(server) == before
    await undone(server, "pif-param-set", f"uuid={uplink}", "properties:gro=off")
    await undone(server, "pif-set-primary-address-type", f"uuid={uplink}", "primary_address_type=IPv6")
    await undone(server, "pif-forget", f"uuid={uplink}")


async def bond_settings(server: InProcess) -> None:
    uplinks = f"pif-uuids={await pif(server, 'eth0')},{await pif(server, 'eth1')}"
    made = await network(server)
    bond = await ok(server, "bond-create", f"network-uuid={made}", uplinks, "mode=lacp")
    await undone(server, "bond-param-set", f"uuid={bond}", "properties:lacp-time=fast")
    tagged = await network(server, "tagged")
    await undone(
        server, "vlan-create", f"pif-uuid={await pif(server, 'bond0')}", "vlan=9", f"network-uuid={tagged}"
    )


async def vif_settings(server: InProcess) -> None:
    made, other = await vif(server), await network(server, "other")
    await undone(server, "vif-move", f"uuid={made}", f"network-uuid={other}")
    await undone(server, "vif-param-set", f"uuid={made}", "qos_algorithm_type=ratelimit")
    await undone(server, "vif-param-set", f"uuid={made}", "qos_algorithm_params:kbps=500")
    await undone(server, "vif-param-set", f"uuid={made}", "other-config:ethtool-gso=off")


async def vms(server: InProcess) -> None:
    await undone(server, "vm-create", "name-label=fresh")
    made = await ok(server, "vm-create", "name-label=vm")
    await undone(server, "vm-param-set", f"uuid={made}", "name-label=other")
    await undone(server, "vm-param-set", f"uuid={made}", "other-config:a=1")
    await ok(server, "vif-create", f"vm-uuid={made}", f"network-uuid={await network(server)}", "device=0")
    await undone(server, "vm-destroy", f"uuid={made}")


async def pool_settings(server: InProcess) -> None:
    pool = await ok(server, "pool-list", "--minimal")
    await undone(server, "pool-param-set", f"uuid={pool}", "igmp-snooping-enabled=true")
    await undone(server, "pool-param-set", f"uuid={pool}", "migration-compression=true")


KINDS = (
    networks,
    other_config,
    vlans,
    bonds,
    bond_settings,
    vifs,
    vif_settings,
    locks,
    ip_configuration,
    names,
    names_and_tags,
    doors,
    tunnels,
    pifs,
    vms,
    pool_settings,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_undo_restores_the_former_state(tmp_path: Path, kind: Callable[[InProcess], Awaitable[None]]) -> None:
    with_server(tmp_path, kind)


async def refusal(server: InProcess, entry: int) -> str:
    before = state(server)
    done = await xe(server, "audit-undo", f"entry={entry}")
    assert done.code == 1
    assert state(server) == before
    return done.err


def test_what_later_changes_are_in_the_way_of_is_refused(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        made = await network(server)
        created = await last_entry(server)
        await ok(server, "network-param-set", f"uuid={made}", "name-label=second")
        second = await last_entry(server)
        await ok(server, "network-param-set", f"uuid={made}", "name-label=third")
        third = await last_entry(server)
        said = f"name_label of the network {made} was changed again by record {third}"
        assert said in await refusal(server, second)
        assert said in await refusal(server, created)
        await ok(server, "audit-undo", f"entry={third}")
        await ok(server, "audit-undo", f"entry={second}")
        uplink = await pif(server, "eth1")
        await ok(server, "vlan-create", f"pif-uuid={uplink}", "vlan=7", f"network-uuid={made}")
        assert "the network that it made is used by PIF" in await refusal(server, created)

    with_server(tmp_path, body)


def test_what_has_taken_the_place_of_something_is_in_the_way(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        vm = await ok(server, "vm-create", "name-label=vm")
        create = ("vif-create", f"vm-uuid={vm}", f"network-uuid={await network(server)}", "device=0")
        first = await ok(server, *create)
        await ok(server, "vif-destroy", f"uuid={first}")
        destroyed = await last_entry(server)
        await ok(server, *create)
        assert "has taken the place" in await refusal(server, destroyed)

    with_server(tmp_path, body)


def test_other_keys_of_a_map_that_changed_meanwhile_stay(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        made = await network(server)
        await ok(server, "network-param-set", f"uuid={made}", "other-config:a=1")
        entry = await last_entry(server)
        await ok(server, "network-param-set", f"uuid={made}", "other-config:b=2")
        await ok(server, "audit-undo", f"entry={entry}")
        assert await ok(server, "network-param-get", f"uuid={made}", "param-name=other-config") == "b: 2"

    with_server(tmp_path, body)


def test_guests_and_records_that_are_not_there_are_refused(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        vm = await ok(server, "vm-create", "name-label=vm")
        await ok(server, "vm-start", f"uuid={vm}")
        assert "VM.start concerned a guest" in await refusal(server, await last_entry(server))
        assert "The audit log has no record 999" in await refusal(server, 999)

    with_server(tmp_path, body)


def test_an_undo_can_be_tried_first(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        made = await network(server)
        uplink = await pif(server, "eth1")
        await ok(server, "vlan-create", f"pif-uuid={uplink}", "vlan=7", f"network-uuid={made}")
        entry, before = await last_entry(server), state(server)
        plan = await ok(server, "audit-undo", f"entry={entry}", "--dry-run")
        assert "destroy bridge" in plan
        assert state(server) == before
        assert await last_entry(server) == entry

    with_server(tmp_path, body)
