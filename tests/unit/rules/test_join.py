"""Which host may join which pool: each check by its code, in the order of the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.sr import SR
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.errors import Failure
from poolnet.model.types import Row
from poolnet.rules.join import PoolHost, Target, require_joinable
from tests.unit.rules.world import World

Step = tuple[str, Callable[[World], None], dict[str, Any]]


def target(world: World, **fields: Any) -> Target:
    """A pool of one host that is like this one."""
    me = world.txn.get(Host, world.ctx.local_host)
    coordinator = PoolHost(
        uuid="c",
        API_version_major=me.API_version_major,
        API_version_minor=me.API_version_minor,
        software_version=me.software_version,
        cpu_info=me.cpu_info,
    )
    usual = Target(
        coordinator=coordinator,
        hosts=("c",),
        ha_enabled=False,
        management_vlan=-1,
        primary_address_type="IPv4",
        purposes=(),
    )
    return replace(usual, **fields)


def check(world: World, pool: Target, *, force: bool = False) -> None:
    require_joinable(world.txn, world.txn.get(Host, world.ctx.local_host), pool, force=force)


def refusal(world: World, pool: Target, *, force: bool = False) -> str:
    with pytest.raises(Failure) as refused:
        check(world, pool, force=force)
    return str(refused.value)


def a_row(world: World, cls: type[Row], **fields: Any) -> None:
    world.txn.create(cls(ref=world.ctx.new_ref(), uuid=world.ctx.new_uuid(), **fields))  # type: ignore[call-arg]


def unmanage(world: World) -> None:
    for pif in world.txn.all(PIF):
        world.txn.update(PIF, pif.ref, management=False)


OBSTACLES: list[tuple[str, Callable[[World], None]]] = [
    ("HOST_STILL_BOOTING[]", unmanage),
    ("HA_IS_ENABLED[]", lambda world: (world.pool(ha_enabled=True), None)[1]),
    ("JOINING_HOST_CANNOT_BE_MASTER_OF_OTHER_HOSTS[]", lambda world: a_row(world, Host)),
    (
        "JOINING_HOST_CANNOT_HAVE_RUNNING_VMS[]",
        lambda world: a_row(world, VM, power_state=VmPowerState.RUNNING),
    ),
    (
        "JOINING_HOST_CANNOT_HAVE_VMS_WITH_CURRENT_OPERATIONS[]",
        lambda world: a_row(world, VM, power_state=VmPowerState.HALTED, current_operations={"x": "start"}),
    ),
    ("JOINING_HOST_CANNOT_CONTAIN_SHARED_SRS[]", lambda world: a_row(world, SR, shared=True)),
    ("POOL_JOINING_HOST_HAS_BONDS[]", lambda world: a_row(world, Bond)),
    ("POOL_JOINING_HOST_HAS_TUNNELS[]", lambda world: a_row(world, Tunnel)),
    ("POOL_JOINING_HOST_HAS_NETWORK_SRIOVS[]", lambda world: a_row(world, NetworkSriov)),
    ("POOL_JOINING_HOST_HAS_NON_MANAGEMENT_VLANS[]", lambda world: a_row(world, VLAN)),
]


def test_a_host_like_the_pools_may_join() -> None:
    world = World.new()
    check(world, target(world))


@pytest.mark.parametrize(("code", "obstruct"), OBSTACLES)
def test_what_is_on_the_host_may_be_in_the_way(code: str, obstruct: Callable[[World], None]) -> None:
    world = World.new()
    obstruct(world)
    assert refusal(world, target(world)) == code


def test_the_first_obstacle_is_named() -> None:
    world = World.new()
    found = []
    for code, obstruct in reversed(OBSTACLES):
        obstruct(world)
        found.append((refusal(world, target(world)), code))
    assert [said for said, _ in found] == [code for _, code in found]


def test_what_of_the_pool_is_in_the_way() -> None:
    world = World.new()
    usual = target(world)
    me = world.txn.get(Host, world.ctx.local_host)

    def with_coordinator(**fields: Any) -> Target:
        return replace(usual, coordinator=replace(usual.coordinator, **fields))

    software = dict(me.software_version)
    cases: list[tuple[Target, str]] = [
        (replace(usual, ha_enabled=True), "HA_IS_ENABLED[]"),
        (with_coordinator(uuid=me.uuid), "OPERATION_NOT_ALLOWED[Host cannot become slave of itself]"),
        (replace(usual, hosts=("c", me.uuid)), "OPERATION_NOT_ALLOWED[Host is already part of a pool]"),
        (
            with_coordinator(software_version={**software, "platform_version": "0"}),
            "HOSTS_NOT_COMPATIBLE[]",
        ),
        (
            with_coordinator(software_version={**software, "build_number": "other"}),
            "HOSTS_NOT_HOMOGENEOUS[Software version differs]",
        ),
        (with_coordinator(cpu_info={"vendor": "other"}), "HOSTS_NOT_HOMOGENEOUS[CPUs differ]"),
        (
            replace(usual, management_vlan=7),
            "POOL_JOINING_HOST_MANAGEMENT_VLAN_DOES_NOT_MATCH[-1; 7]",
        ),
        (with_coordinator(external_auth_type="AD"), "POOL_JOINING_EXTERNAL_AUTH_MISMATCH[]"),
        (
            with_coordinator(software_version={**software, "network_backend": "other"}),
            "OPERATION_NOT_ALLOWED[Network backends differ]",
        ),
        (
            with_coordinator(API_version_minor=1),
            "POOL_JOINING_HOST_MUST_HAVE_SAME_API_VERSION[2.23; 2.1]",
        ),
        (
            replace(usual, primary_address_type="IPv6"),
            "OPERATION_NOT_ALLOWED[Primary address type differs]",
        ),
    ]
    assert [refusal(world, pool) for pool, _ in cases] == [text for _, text in cases]


def test_force_lets_versions_and_processors_differ_but_not_products() -> None:
    world = World.new()
    usual = target(world)
    software = dict(usual.coordinator.software_version)
    other = replace(
        usual.coordinator, software_version={**software, "build_number": "x"}, cpu_info={"vendor": "x"}
    )
    check(world, replace(usual, coordinator=other), force=True)
    other = replace(other, software_version={**software, "product_brand": "x"})
    assert refusal(world, replace(usual, coordinator=other), force=True) == "HOSTS_NOT_COMPATIBLE[]"
