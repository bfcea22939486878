"""What would a Linux bridge with these nftables rules do with a frame? An evaluator of the table that `nft -j` lists.

For proofs and explanations: it reads what is installed, not what was meant. Written from the documented meaning of the
expressions and the kernel's reading of headers, and itself compared with a real bridge by the lab tests. It knows the
expressions that the compiler uses and their neighbours; any other makes it refuse the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from poolnet.lock.nft_chains import counter_set
from poolnet.lock.nft_values import Context, Sets, UnknownRuleError, Value, context, matcher, reader
from poolnet.lock.reasons import DropReason

STEPS_MAX = 64
_REASON_OF = {counter_set(reason): reason for reason in DropReason}
_FINAL = ("accept", "drop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of a frame: whether it leaves the rules, what was counted against it, and the chains it met."""

    passes: bool
    reason: DropReason | None
    path: tuple[str, ...]


@dataclass(slots=True)
class _Way:
    """A frame's way so far."""

    context: Context
    reason: DropReason | None = None


_Verdict = tuple[str, str]  # accept, drop, goto or jump; and the chain
_Expression = Callable[[_Way], "bool | _Verdict"]  # False: the rule does not match


class BridgeModel:
    """A bridge with a fixed set of rules."""

    def __init__(self, listing: Mapping[str, Any]) -> None:
        """`listing` is that of `nft -j list table bridge poolnet`. Raises UnknownRuleError, KeyError or TypeError."""
        items = listing["nftables"]
        self._sets = Sets(items)
        self._hooks: dict[str, list[tuple[int, str, str]]] = {}
        self._chains: dict[str, list[tuple[_Expression, ...]]] = {}
        for item in items:
            if "chain" in item:
                chain = item["chain"]
                self._chains[chain["name"]] = []
                if "hook" in chain:
                    hook = self._hooks.setdefault(chain["hook"], [])
                    hook.append((chain["prio"], chain["name"], chain["policy"]))
        for item in items:
            if "rule" in item:
                rule = item["rule"]
                self._chains[rule["chain"]].append(tuple(map(self._expression, rule["expr"])))

    def sends(self, device: str, frame: bytes) -> Outcome:
        """What happens to a frame (without FCS) that the guest behind the port `device` sends."""
        return self._run("prerouting", _Way(context(frame, iifname=device)))

    def receives(self, device: str, frame: bytes) -> Outcome:
        """What happens to a frame that the bridge is about to send out at this port."""
        return self._run("postrouting", _Way(context(frame, oifname=device)))

    def _run(self, hook: str, way: _Way) -> Outcome:
        path: list[str] = []
        for _, chain, policy in sorted(self._hooks.get(hook, ())):
            if (self._through(chain, way, path) or policy) != "accept":
                return Outcome(passes=False, reason=way.reason, path=tuple(path))
        return Outcome(passes=True, reason=way.reason, path=tuple(path))

    def _through(self, chain: str, way: _Way, path: list[str]) -> str | None:
        """The final verdict of a chain, or None when it has none."""
        if len(path) >= STEPS_MAX:
            return "drop"
        path.append(chain)
        for rule in self._chains.get(chain, ()):
            for expression in rule:
                result = expression(way)
                if result is False:
                    break
                if result is True:
                    continue
                kind, target = result
                if kind in _FINAL:
                    return kind
                found = self._through(target, way, path)
                if kind == "goto" or found is not None:
                    return found
        return None

    def _expression(self, expression: Mapping[str, Any]) -> _Expression:
        kind, content = next(iter(expression.items()))
        if kind == "match":
            test = matcher(content, self._sets)
            return lambda way: test(way.context)
        if kind == "vmap":
            return self._vmap(content)
        if kind == "set" and content["op"] in ("add", "update"):
            return _counting(_REASON_OF.get(str(content["set"]).removeprefix("@")))
        if kind == "counter":
            return lambda _: True
        verdict = _verdict(expression)
        return lambda _: verdict

    def _vmap(self, content: Mapping[str, Any]) -> _Expression:
        key, data = reader(content["key"]), content["data"]
        elements = self._sets.elements(data) if isinstance(data, str) else data["set"]
        verdicts = {_key(one): _verdict(verdict) for one, verdict in elements}

        def choose(way: _Way) -> bool | _Verdict:
            value = key(way.context)
            return False if value is None else verdicts.get(value, True)

        return choose


def _counting(reason: DropReason | None) -> _Expression:
    def count(way: _Way) -> bool:
        way.reason = reason
        return True

    return count


def _verdict(expression: Mapping[str, Any]) -> _Verdict:
    kind, content = next(iter(expression.items()))
    if kind in _FINAL:
        return kind, ""
    if kind in ("goto", "jump"):
        return kind, str(content["target"])
    raise UnknownRuleError(f"{kind} is not known")


def _key(value: Any) -> Value:
    single = Sets.value(value)
    if not isinstance(single, int | str | tuple):
        raise UnknownRuleError(f"{value} is no key")
    return single
