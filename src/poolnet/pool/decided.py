"""Which rollout was decided last for a host, and what is the host told of it? See docs/decisions/0010.

The commit of a rollout over several hosts notes it with each of them. Whoever meets the host later, be it another coordinator,
has it kept, or carried out again if the host went back by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.db.changes import Changes
from poolnet.db.txn import Txn, View
from poolnet.hostnet import protocol
from poolnet.model.classes.host import Host
from poolnet.model.classes.vm import VM
from poolnet.model.types import Ref
from poolnet.pool.host_work import ALIVE, HostWork

DECIDED_KEY: Final = "poolnet-rollout"
"""The key of a host's other_config with the last rollout over several hosts that was decided, and that it took part in."""


def noted(view: View, armed: Mapping[Ref[Host], str]) -> tuple[Changes, ...]:
    """What makes the decision known with the commit itself: each host's rollout, for whoever finds it waiting."""
    if not isinstance(view, Txn):
        return ()
    overlay = view.nested()
    for host, rollout in armed.items():
        row = overlay.stored(Host, host)
        if row is not None:
            overlay.update(Host, host, other_config={**row.other_config, DECIDED_KEY: rollout})
    return (overlay.changes(),)


def confirmation(view: View, host: Ref[Host], rollout: str, work: HostWork) -> protocol.Confirm:
    """What a host is told of a rollout that is committed, and that had this for it to do."""
    concerned = bool(work.before or work.after)
    return protocol.Confirm(rollout=rollout, alive=_alive(view, host) if concerned else ())


def late_confirmation(view: View, host: Ref[Host]) -> protocol.Confirm | None:
    """What a host is told that may not have heard of the last rollout; None when there was none."""
    row = view.find(Host, host)
    rollout = row.other_config.get(DECIDED_KEY) if row is not None else None
    return protocol.Confirm(rollout=rollout, alive=_alive(view, host)) if rollout else None


def _alive(view: View, host: Ref[Host]) -> tuple[str, ...]:
    """The VMs that are alive on a host, as far as the database knows."""
    return tuple(
        vm.uuid
        for vm in view.where(VM, resident_on=host)
        if vm.power_state in ALIVE and not vm.is_control_domain
    )
