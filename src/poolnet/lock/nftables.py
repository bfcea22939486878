"""Which nftables rules enforce the locks of a host's guest ports on Linux bridges (dataplane.md §B10)?

The second compiler beside `openflow`, with the same meaning (`policy`). The table `bridge poolnet` is ours alone. It
holds for all bridges of the host: a guest's port (`vif*`, `tap*`) that has no lock sends and receives nothing, so the
table must be there before the first guest's interface.

Stricter than the policy, as nftables reads fixed places only: `nft_limits` says for which frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from poolnet.hostnet.state import PortLock
from poolnet.lock.nft_chains import Chain, base_chains, chains, counter_set
from poolnet.lock.nft_elements import PORTS, RANGES, RECEIVERS, SETS, SWITCHES, Element, elements, quoted
from poolnet.lock.reasons import DropReason

TABLE = "bridge poolnet"
_PORTS_MAX = 65536


def ruleset(locks: Mapping[str, PortLock]) -> str:
    """The whole table with these locks by device, for one `nft -f -`; what was in the table is gone.

    Raises ValueError when a device's name, a MAC or an address is bad.
    """
    found = [element for device in sorted(locks) for element in elements(device, locks[device])]
    return "\n".join((f"table {TABLE}", f"delete table {TABLE}", *_skeleton(), *_commands("add", found), ""))


def change(old: Mapping[str, PortLock], new: Mapping[str, PortLock]) -> tuple[str, ...]:
    """What turns the table of the locks `old` into that of `new`: texts for one `nft -f -` each, in this order.

    One transaction would not do: a frame asks several sets, and may ask one of them before and the next one after the
    change. So what a port gains comes first, then the switch of its mode, then what it loses goes, and a frame that
    both locks let through is never lost. Nothing passes that neither of the two lets through.
    Ports whose lock stays are not touched, and all keep their counters until they are gone.
    Raises ValueError as `ruleset`.
    """
    steps: tuple[_Edits, ...] = (_Edits(), _Edits(), _Edits())
    for device in sorted(old.keys() | new.keys()):
        before, after = old.get(device), new.get(device)
        if before != after:
            _plan(steps, device, before, after)
    return tuple(text for edits in steps if (text := edits.text()))


@dataclass(slots=True)
class _Edits:
    """One transaction: what goes, and then what comes."""

    delete: list[Element] = field(default_factory=list)
    add: list[Element] = field(default_factory=list)
    forget: list[Element] = field(default_factory=list)  # which may be there or not

    def text(self) -> str:
        # Only what is there can be deleted: `forget` adds it before.
        lines = (
            *_commands("delete", self.delete),
            *_commands("add", self.add),
            *_commands("add", self.forget),
            *_commands("delete", self.forget),
        )
        return "".join(f"{line}\n" for line in lines)


def _plan(steps: Sequence[_Edits], device: str, before: PortLock | None, after: PortLock | None) -> None:
    had = tuple(elements(device, before)) if before else ()
    has = tuple(elements(device, after)) if after else ()
    gained, switched, lost = steps
    replaced = {name for name, _ in has if name in RANGES}  # two ranges of one set must not overlap
    for name, text in had:
        if (name, text) not in has:
            step = switched if name in SWITCHES else gained if name in replaced else lost
            step.delete.append((name, text))
    for name, text in has:
        if (name, text) not in had:
            (switched if name in SWITCHES else gained).add.append((name, text))
    if after is None:
        lost.forget.extend((counter_set(reason), quoted(device)) for reason in DropReason)


def _skeleton() -> Iterator[str]:
    yield f"table {TABLE} {{"
    for name, declaration in SETS.items():
        yield f"  set {name} {{ {declaration}; }}"
    for reason in DropReason:
        yield f"  set {counter_set(reason)} {{ type ifname; size {_PORTS_MAX}; flags dynamic; counter; }}"
    for chain in chains():
        yield from _chain_lines(chain)
    for name in (PORTS, RECEIVERS):
        yield f"  map {name} {{ type ifname : verdict; }}"
    for chain in base_chains():
        yield from _chain_lines(chain)
    yield "}"


def _chain_lines(chain: Chain) -> Iterator[str]:
    name, rules = chain
    yield f"  chain {name} {{"
    for rule in rules:
        yield f"    {rule}"
    yield "  }"


def _commands(verb: str, found: Iterable[Element]) -> Iterator[str]:
    """One command per set; the verdict of a map's element is left out when it is deleted."""
    by_set: dict[str, list[str]] = {}
    for name, text in found:
        by_set.setdefault(name, []).append(text)
    for name, texts in by_set.items():
        yield f"{verb} element {TABLE} {name} {{ {', '.join(texts)} }}"
