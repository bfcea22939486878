"""How is high availability turned on and off? The calls of a coordinator, and the one that disarms a single host.

It is on when every host has its lease, and before that it is off: hosts are offered leases first, and the database says that it is
on only when all have taken them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final
from uuid import uuid4

import structlog

from poolnet.api.dispatch import Call, Own, Result, session_of
from poolnet.api.place import Place
from poolnet.db import leases
from poolnet.db.database import Database
from poolnet.db.leases import State
from poolnet.db.seat import BROKEN, NoMajority
from poolnet.hostnet import protocol
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.failover import Failover
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused
from poolnet.pool.members import Members
from poolnet.rules import ha
from poolnet.rules.features import the_pool

log = structlog.get_logger("poolnet.api.ha")

HEARD_S: Final = 10.0  # a member that lost the connection makes a new one after a second
FORMS_S: Final = 20.0
LOOK_S: Final = 0.2
DAEMON_S: Final = 10.0


class HaCalls:
    """The calls of a coordinator about high availability.

    Args:
        database: The pool database.
        coordinator: Who carries out what rules decide.
        members: The other hosts.
        failover: Who watches leases; None without a cluster.
        place: What this host has of the cluster.
        daemon: This host's daemon.
    """

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        members: Members,
        failover: Failover | None,
        place: Place,
        daemon: HostLink,
    ) -> None:
        self._database = database
        self._coordinator = coordinator
        self._members = members
        self._failover = failover
        self._place = place
        self._daemon = daemon

    def messages(self) -> Mapping[str, Own]:
        """The messages, by full name."""
        return {
            "pool.enable_ha": self._enable,
            "pool.disable_ha": self._disable,
            "pool.ha_prevent_restarts_for": self._prevent,
            "host.emergency_ha_disable": self._emergency_disable,
            "host.ha_xapi_healthcheck": self._is_healthy,
        }

    async def _enable(self, call: Call) -> Result:
        """Turns high availability on.

        Raises:
            (as ha.require_ready)
            OTHER_OPERATION_IN_PROGRESS: It is being turned on or off.
            HOST_OFFLINE: A host is not heard.
            HA_FAILED_TO_FORM_LIVESET: A host did not take its lease in time, or there is no majority; it is off as before.
        """
        arguments = {name: call.arguments[name] for name in ("heartbeat_srs", "configuration")}
        rule = RuleCall(
            method="pool.enable_ha", rule=ha.require_ready, arguments=arguments, session=session_of(call.live)
        )
        await self._members.heard(HEARD_S)
        lease_s = int(str(self._coordinator.ask(rule)))
        failover = self._failover
        if failover is None:
            raise errors.no_compatible_cluster_host(the_pool(self._database.view).master)
        self._require_idle(failover)
        async with failover.changing:
            for missing in self._members.missing:
                raise errors.host_offline(missing)
            configuration = {**call.arguments["configuration"], ha.TIMEOUT: str(lease_s)}
            await self._coordinator.write(partial(ha.forming, configuration=configuration))
            try:
                await self._form(failover, lease_s)
                done = RuleCall(method="pool.enable_ha", rule=ha.enabled, arguments={}, session=rule.session)
                await self._coordinator.run(done)
            except BaseException as error:
                log.warning("high-availability-not-on", reason=f"{type(error).__name__} {error}".strip())
                with suppress(NoMajority, errors.Failure, *BROKEN):
                    await failover.end()
                if isinstance(error, (NoMajority, *BROKEN)):
                    raise errors.ha_failed_to_form_liveset() from error
                raise
        return None

    async def _form(self, failover: Failover, lease_s: int) -> None:
        """Has all hosts take a lease. Raises NoMajority, BROKEN (TimeoutError)."""
        generation = str(uuid4())
        hosts = [row.uuid for row in self._database.view.all(Host)]
        await failover.ask(leases.offer(failover.term, hosts, generation, lease_s, str(uuid4())))
        async with asyncio.timeout(FORMS_S):
            while True:
                found = leases.leases_in(await failover.ask(leases.READ))
                if {each.host for each in found if each.state is State.HELD} >= set(hosts):
                    return
                await asyncio.sleep(LOOK_S)

    async def _disable(self, _: Call) -> Result:
        """Turns high availability off.

        Raises:
            HA_NOT_ENABLED: It is off.
            OTHER_OPERATION_IN_PROGRESS: It is being turned on or off.
            INTERNAL_ERROR: The cluster does not answer: it is off, and hosts keep their leases until it does.
        """
        pool = the_pool(self._database.view)
        if not pool.ha_enabled:
            raise errors.ha_not_enabled()
        failover = self._failover
        if failover is None:
            await self._coordinator.write(ha.disabled)
            return None
        self._require_idle(failover)
        async with failover.changing:
            await self._coordinator.write(lambda txn: txn.update(Pool, pool.ref, ha_enabled=False))
            try:
                await failover.end()
            except (NoMajority, *BROKEN) as error:
                raise errors.internal_error(f"the database's cluster: {error}") from error
        return None

    def _require_idle(self, failover: Failover) -> None:
        if failover.changing.locked():
            raise errors.other_operation_in_progress("pool", the_pool(self._database.view).ref, ())

    async def _prevent(self, call: Call) -> Result:
        """Holds restarts of VMs back for some seconds.

        Raises:
            HA_NOT_ENABLED: High availability is off.
        """
        if self._failover is None or not the_pool(self._database.view).ha_enabled:
            raise errors.ha_not_enabled()
        self._failover.prevent(call.arguments["seconds"])
        return None

    async def _emergency_disable(self, call: Call) -> Result:
        await disarm(self._daemon, self._place, soft=call.arguments["soft"])
        return None

    async def _is_healthy(self, _: Call) -> Result:
        return True


async def is_armed(daemon: HostLink) -> str:
    """For which time of high availability this host is armed, "" for none. Raises HostGone, HostRefused."""
    return (await daemon.request(protocol.ReadFence(), protocol.FenceState, DAEMON_S)).generation


async def disarm(daemon: HostLink, place: Place, *, soft: bool) -> None:
    """Has this host stop its VMs for no lease any more. With `soft`, only until it sees the majority again.

    Raises:
        HA_NOT_ENABLED: This host is not armed.
        INTERNAL_ERROR: Its daemon does not answer, or it cannot be written down.
    """
    try:
        generation = await is_armed(daemon)
        if not generation:
            raise errors.ha_not_enabled()
        if not soft:
            place.laid_down.note(generation)
        await daemon.request(protocol.DropLease(), protocol.FenceState, DAEMON_S)
    except (HostGone, HostRefused, OSError) as error:
        raise errors.internal_error(f"the host daemon: {error}") from error
    log.warning("host-disarmed", soft=soft)
    if place.keeper is not None:
        place.keeper.look()
