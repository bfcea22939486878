"""What does a rule know about the call it decides? Made by the pool for each call and handed to every rule.

Rules read no clock, draw no randomness and do no I/O: time, fresh identities, what hosts report, and who asks all come
from here; what the rule wants done to guests and host names is left here for the pool to carry out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from poolnet.db.txn import Txn
from poolnet.hostnet.facts import HostFacts
from poolnet.hostnet.protocol import GuestAction
from poolnet.hostnet.storage import StorageAction
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.session import Session as SessionRow
from poolnet.model.classes.task import Task
from poolnet.model.roles import Role
from poolnet.model.types import NULL, Ref

BRIDGE_PREFIX = "xapi"


class Phase(StrEnum):
    """When a guest action is carried out: before or after the host's network changes."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Who asks; `role` is None for superusers. `ref` is null where nobody is logged in.

    `sid` identifies the user in the directory, or a local user with a role; superusers have none.
    """

    user: str = "root"
    sid: str = ""
    is_superuser: bool = True
    is_pool_session: bool = False
    role: Role | None = None
    ref: Ref[SessionRow] = NULL


@dataclass(slots=True, kw_only=True)
class Counters:
    """Numbers that only grow while the server runs: of generated bridge names, and of domains on each host."""

    next_bridge: int = 0
    domids: dict[Ref[Host], int] = field(default_factory=dict)

    def take_bridge(self) -> int:
        """Takes the next number of a generated bridge name."""
        number = self.next_bridge
        self.next_bridge += 1
        return number

    def take_domid(self, host: Ref[Host]) -> int:
        """Takes the next domain id of a host; the control domain has 0."""
        domid = self.domids.get(host, 0) + 1
        self.domids[host] = domid
        return domid

    def copy(self) -> Counters:
        """Counters that go on from here by themselves, for what may come to nothing."""
        return Counters(next_bridge=self.next_bridge, domids=dict(self.domids))

    def note_domid(self, host: Ref[Host], domid: int) -> None:
        """Makes sure that a domain id in use is not given out."""
        self.domids[host] = max(self.domids.get(host, 0), domid)


@dataclass(slots=True, kw_only=True)
class CallContext:
    """The transaction a rule changes, and all that it may know besides.

    Attributes:
        txn: What the rule reads and changes; discarded if the rule raises.
        now: The moment of the call, in UTC.
        new_uuid: Gives a fresh random uuid.
        local_host: The host that this server runs on.
        session: Who asks.
        task: The call's task, or null.
        facts: What each host reported last.
        counters: Numbers that outlive the call.
        guest_actions: What the rule wants done to guests: host, phase, action, in this order.
        hostname_changes: The new names of hosts.
        storage_actions: What the rule wants done with storage: host, action, in this order.
        servers: The uuids of the hosts with a server of the cluster that the pool's database is on.
        worked_out: What calls that only read have worked out about this state of the database, for the next such calls; None for
            calls that change it.
    """

    txn: Txn
    now: datetime
    new_uuid: Callable[[], str]
    local_host: Ref[Host]
    session: Session = Session()
    task: Ref[Task] = NULL
    facts: Mapping[Ref[Host], HostFacts] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    guest_actions: list[tuple[Ref[Host], Phase, GuestAction]] = field(default_factory=list)
    hostname_changes: list[tuple[Ref[Host], str]] = field(default_factory=list)
    storage_actions: list[tuple[Ref[Host], StorageAction]] = field(default_factory=list)
    servers: frozenset[str] = frozenset()
    worked_out: dict[Any, Any] | None = None

    def new_ref(self) -> Ref[Any]:
        """Gives a fresh reference, unrelated to any uuid (spec §1.3)."""
        return Ref(f"OpaqueRef:{self.new_uuid()}")

    def on(self, txn: Txn) -> CallContext:
        """The same call on another transaction, such as one nested in this."""
        return replace(self, txn=txn)

    def facts_of(self, host: Ref[Host]) -> HostFacts:
        """What a host reported last; empty facts if it never did."""
        return self.facts.get(host) or HostFacts()

    def before(self, host: Ref[Host], action: GuestAction) -> None:
        """Asks for a guest action before the host's network changes."""
        self.guest_actions.append((host, Phase.BEFORE, action))

    def after(self, host: Ref[Host], action: GuestAction) -> None:
        """Asks for a guest action after the host's network has changed."""
        self.guest_actions.append((host, Phase.AFTER, action))

    def require_live(self, host: Ref[Host]) -> None:
        """Lets a call be carried out on that host only if it can be (spec §6.2).

        Raises:
            HANDLE_INVALID: There is no such host.
            HOST_OFFLINE: It is another host, and not live.
        """
        if not self.txn.exists(Host, host):
            raise errors.handle_invalid("host", host)
        if not self.is_live(host):
            raise errors.host_offline(host)

    def require_no_server(self, host: Ref[Host]) -> None:
        """Lets a host's management address change only if no server of the database's cluster is found at it (spec §22.3).

        Raises:
            CLUSTERING_ENABLED: One is. There are no Cluster_hosts here; the parameter is the host.
        """
        row = self.txn.find(Host, host)
        if row is not None and row.uuid in self.servers:
            raise errors.clustering_enabled(host)

    def is_live(self, host: Ref[Host], row: Host | None = None) -> bool:
        """Whether calls can be carried out on a host: on this one always, on others while they report.

        `row` is the host's, for who has it already.
        """
        if host == self.local_host:
            return True
        row = row or self.txn.stored(Host, host)
        metrics = self.txn.find(HostMetrics, row.metrics) if row is not None else None
        return metrics is not None and metrics.live
