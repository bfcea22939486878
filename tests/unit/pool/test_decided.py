"""What a host is told of a rollout that is committed, at once or when somebody meets it later."""

from __future__ import annotations

from poolnet.hostnet import protocol
from poolnet.hostnet.state import HostNetwork
from poolnet.model.classes.host import Host
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.types import NULL
from poolnet.pool.decided import DECIDED_KEY, confirmation, late_confirmation, noted
from poolnet.pool.host_work import HostWork
from tests.unit.rules.world import LOCAL, World


def alive_of(confirm: protocol.Confirm | None) -> set[str] | None:
    return None if confirm is None or confirm.alive is None else set(confirm.alive)


def test_a_host_hears_late_of_the_rollout_that_was_noted_with_it_last() -> None:
    world = World.new()
    assert late_confirmation(world.txn, LOCAL) is None
    for rollout in ("first", "second"):
        other_config = world.txn.get(Host, LOCAL).other_config
        (changes,) = noted(world.txn, {LOCAL: rollout})
        world.txn.update(Host, LOCAL, other_config={**other_config, DECIDED_KEY: rollout})
        assert changes
        assert late_confirmation(world.txn, LOCAL) == protocol.Confirm(rollout=rollout, alive=())


def test_only_guests_of_vms_that_are_alive_there_are_made_again() -> None:
    """Neither the control domain, nor a VM that somebody has given up since, nor one that runs elsewhere."""
    world = World.new()
    refs = [world.vm() for _ in range(4)]
    for ref, state in zip(
        refs, (VmPowerState.RUNNING, VmPowerState.PAUSED, VmPowerState.HALTED), strict=False
    ):
        world.txn.update(VM, ref, power_state=state, resident_on=LOCAL)
    world.txn.update(VM, refs[3], power_state=VmPowerState.RUNNING, resident_on=NULL)
    alive = {world.txn.get(VM, ref).uuid for ref in refs[:2]}
    with_guests = HostWork(HostNetwork(), after=[protocol.RunGuest(vm_uuid="any")])
    assert alive_of(confirmation(world.txn, LOCAL, "r", with_guests)) == alive
    assert alive_of(confirmation(world.txn, LOCAL, "r", HostWork(HostNetwork()))) == set()
    world.txn.update(Host, LOCAL, other_config={DECIDED_KEY: "r"})
    assert alive_of(late_confirmation(world.txn, LOCAL)) == alive
