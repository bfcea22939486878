"""What does the switch say that it would do with a frame? The text of its `ofproto/trace`, read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from poolnet.lock.openflow import reason_at
from poolnet.lock.reasons import DropReason

_NORMAL = re.compile(r"^\s+NORMAL\s*$", re.MULTILINE)
_RULE = re.compile(r"^\s*(\d+)\. (.*)$", re.MULTILINE)
_ACTIONS = re.compile(r"^Datapath actions: (.*)$", re.MULTILINE)
_NEXT_BRIDGE = '\nbridge("'
_METER = re.compile(r"meter\(\d+\),?")


@dataclass(frozen=True, slots=True)
class Traced:
    """A frame's way through the bridge that it enters: whether it leaves the rules, and the rules that it met.

    Each rule is its table and what the switch says of it: its match and priority, or that there is none.
    """

    passes: bool
    reason: DropReason | None
    rules: tuple[tuple[int, str], ...]


def read(text: str) -> Traced:
    """The outcome of a trace.

    A frame passes when the rules leave it to the learning switch, or do anything else with it than to drop it; that the
    learning switch knows no port to send it to is not the lock's doing.
    """
    first = text.find(_NEXT_BRIDGE)
    second = text.find(_NEXT_BRIDGE, first + 1)
    here = text[first:second] if second >= 0 else text[first:]
    rules = tuple((int(table), what) for table, what in _RULE.findall(here))
    actions = _ACTIONS.search(text)
    forwarded = actions is not None and _METER.sub("", actions[1]).strip() not in ("", "drop")
    reasons = [reason for table, _ in rules if (reason := reason_at(table)) is not None]
    return Traced(
        passes=_NORMAL.search(here) is not None or forwarded,
        reason=reasons[-1] if reasons else None,
        rules=rules,
    )
