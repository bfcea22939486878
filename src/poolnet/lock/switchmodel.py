"""What would a switch with these rules do with a frame? A small OpenFlow evaluator for tests and proofs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from poolnet.lock.flowkey import flow_key
from poolnet.lock.flows import Field, Final, Flow
from poolnet.lock.reasons import DropReason

RESUBMITS_MAX = 64  # the depth at which Open vSwitch gives up


class AmbiguousRulesError(ValueError):
    """Two rules of one table and priority match the same frames, so that the switch may use either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of a frame: whether it leaves the rules, and the rules that it met, in order."""

    passes: bool
    path: tuple[Flow, ...]

    @property
    def reason(self) -> DropReason | None:
        """What was counted against the frame, if anything; in shadow mode it passes all the same."""
        return next((flow.reason for flow in reversed(self.path) if flow.reason is not None), None)


class SwitchModel:
    """A switch with a fixed set of rules, in secure fail mode: no rule, no way."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        """Raises `AmbiguousRulesError` when two rules with the same table and priority overlap."""
        ranks: defaultdict[tuple[int, int], list[Flow]] = defaultdict(list)
        for flow in flows:
            ranks[flow.table, flow.priority].append(flow)
        self._tables: defaultdict[int, list[Flow]] = defaultdict(list)
        for (table, _), rank in sorted(ranks.items(), key=lambda item: -item[0][1]):
            for one, other in combinations(rank, 2):
                if _overlap(one, other):
                    raise AmbiguousRulesError(f"{one.text()} and {other.text()}")
            self._tables[table] += rank

    def run(self, frame: bytes, in_port: int) -> Outcome:
        """Send `frame` (as on the wire, without FCS) into port `in_port`."""
        key = flow_key(frame, in_port)
        path: list[Flow] = []
        table = 0
        while len(path) <= RESUBMITS_MAX:
            flow = next((flow for flow in self._tables.get(table, ()) if _matches(flow, key)), None)
            if flow is None:
                break
            path.append(flow)
            if isinstance(flow.action, Final):
                return Outcome(passes=flow.action is Final.NORMAL, path=tuple(path))
            table = flow.action
        return Outcome(passes=False, path=tuple(path))


def _matches(flow: Flow, key: dict[Field, int]) -> bool:
    # No `all`: proofs ask this some million times, and a generator takes longer than its answer.
    for term in flow.match:  # noqa: SIM110
        if key.get(term.field, 0) & term.mask != term.value:
            return False
    return True


def _overlap(one: Flow, other: Flow) -> bool:
    """Is there a frame that both match? True unless some field's conditions contradict each other."""
    conditions = {term.field: term for term in one.match}
    for term in other.match:
        known = conditions.get(term.field)
        if known is not None and (known.value ^ term.value) & known.mask & term.mask:
            return False
    return True
