"""Do the locks of these guest ports hold on the Linux bridges? The rules that the kernel has, evaluated and compared.

The kernel has no dry run, so the table is read and evaluated (`lock.nftmodel`, which the tests hold against real packets).
What no class of packets shows is found by comparison: with the table as `nft` lists it after loading it into an empty
network namespace.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from poolnet.hostd.proofs import proof_of
from poolnet.hostnet.protocol import PortProof, RuleFound
from poolnet.hostnet.state import GuestPort, HostNetwork, LockMode, PortLock
from poolnet.lock.craft import ethernet, vlan_tag
from poolnet.lock.nftmodel import BridgeModel
from poolnet.lock.policy import receives
from poolnet.lock.prove import bridge_sent, probes

Listing = Mapping[str, Any]
_ANY_FRAME = ethernet(b"\xff" * 6, b"\x02" + bytes(5), 0x0800, bytes(46))
_COUNTS = "dropped_"  # sets of counters
_DEVICE = re.compile(r'"((?:vif|tap)[^"]*)"')
_SHOWN_MAX = 200


def prove(
    model: BridgeModel, observed: HostNetwork, loaded: Mapping[str, PortLock], wanted: GuestPort
) -> PortProof:
    """Proves one port's lock. Raises ValueError when the lock is impossible."""
    device, known = wanted.device, observed.port(wanted.device)
    if wanted.lock.mode is LockMode.DISABLED:
        on = (
            [known.bridge]
            if known
            else [name.rpartition("/")[0] for name in observed.foreign if name.endswith(f"/{device}")]
        )
        return PortProof(
            device=device,
            faults=tuple(f"{device} is on the bridge {name}, and should be on none" for name in on),
        )
    is_changing = known is not None and loaded.get(device) != wanted.lock
    faults = tuple(_faults(model, known, wanted))
    if wanted.lock.mode is LockMode.UNLOCKED and not wanted.lock.trunks:
        return PortProof(device=device, faults=faults, is_changing=is_changing)
    tried = probes(wanted.lock)
    sent = [bridge_sent(wanted.lock, model, device, probe.frame) for probe in tried]
    return proof_of(device, tried, sent, faults, is_changing)


def _faults(model: BridgeModel, known: GuestPort | None, wanted: GuestPort) -> Iterator[str]:
    device = wanted.device
    if known is None:
        yield f"{device} is on no bridge of poolnet's"
    elif known.bridge != wanted.bridge:
        yield f"{device} is on the bridge {known.bridge}, and should be on {wanted.bridge}"
    tags = (None, *wanted.lock.trunks, next(tag for tag in range(1, 4095) if tag not in wanted.lock.trunks))
    for tag in tags:
        frame = vlan_tag(_ANY_FRAME, tag) if tag else _ANY_FRAME
        if model.receives(device, frame).passes != receives(wanted.lock, frame):
            what = f"frames of VLAN {tag}" if tag else "untagged frames"
            does = "does not receive" if receives(wanted.lock, frame) else "receives"
            yield f"{device} {does} {what}"


def rules_found(expected: Listing, found: Listing) -> Iterator[RuleFound]:
    """How the table of the locks differs from what it should be; both as `nft -j` lists them."""
    should_be, there = _parts(expected), _parts(found)
    for name in sorted(should_be.keys() | there.keys()):
        for what, one, other in (
            ("is missing", should_be.get(name, {}), there.get(name, {})),
            ("should not be there", there.get(name, {}), should_be.get(name, {})),
        ):
            for text, count in one.items():
                if count > other.get(text, 0):
                    device = _DEVICE.search(text)
                    yield RuleFound(
                        device=device[1] if device and not name.startswith("chain ") else "",
                        text=f"in {name} of the table bridge poolnet {what}: {text[:_SHOWN_MAX]}",
                    )


def _parts(listing: Listing) -> dict[str, dict[str, int]]:
    """What is in each chain, set and map, and how often; the order of the rules of a chain counts."""
    parts: dict[str, dict[str, int]] = {}
    for item in listing["nftables"]:
        kind, content = next(iter(item.items()))
        if kind == "rule":
            rules = parts.setdefault(f"chain {content['chain']}", {})
            rules[f"rule {len(rules) + 1}: {_text(content['expr'])}"] = 1
        elif kind in ("chain", "set", "map"):
            declared = {key: value for key, value in content.items() if key not in ("handle", "elem")}
            name = f"{kind} {content['name']}"
            elements = parts.setdefault(name, {})
            elements[_text(declared)] = 1
            for element in content.get("elem", ()) if not content["name"].startswith(_COUNTS) else ():
                elements[_text(element)] = elements.get(_text(element), 0) + 1
        elif kind != "metainfo" and kind != "table":
            parts.setdefault(kind, {})[_text(content)] = 1
    return parts


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
