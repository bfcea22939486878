"""The table of any locks as `nft -j` would list it: the chains as listed by nft 1.0.6, and elements as compiled.

Lab tests compare it with what a kernel lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from poolnet.hostnet.state import PortLock
from poolnet.lock.nft_elements import elements

LISTING = json.loads((Path(__file__).parents[1] / "golden/nft/listing.json").read_text())


def listing(locks: Mapping[str, PortLock]) -> dict[str, Any]:
    """The whole table with these locks."""
    by_name: dict[str, dict[str, Any]] = {}
    items = []
    for item in LISTING["nftables"]:
        ((kind, content),) = item.items()
        if kind in ("set", "map"):
            content = {key: value for key, value in content.items() if key != "elem"}
            by_name[content["name"]] = content
        items.append({kind: content})
    for device, lock in locks.items():
        for name, text in elements(device, lock):
            by_name[name].setdefault("elem", []).append(_listed(text))
    return {"nftables": items}


def without_order(table: Mapping[str, Any]) -> Iterator[str]:
    """What is in a listing, to be compared: without handles, and elements sorted."""
    for item in table["nftables"]:
        ((kind, content),) = item.items()
        if kind in ("metainfo", "table"):
            continue
        kept = {key: value for key, value in content.items() if key not in ("family", "table", "handle")}
        if "elem" in kept:
            kept["elem"] = sorted(map(str, kept["elem"]))
        yield json.dumps({kind: kept})


def _listed(text: str) -> Any:
    key, _, verdict = text.partition(" : ")
    parts = [_value(part) for part in key.split(" . ")]
    one = parts[0] if len(parts) == 1 else {"concat": parts}
    if not verdict:
        return one
    kind, _, target = verdict.partition(" ")
    return [one, {kind: {"target": target} if target else None}]


def _value(text: str) -> Any:
    if text.startswith('"'):
        return text.strip('"')
    ends = [int(end, 16) for end in text.split("-")]
    listed = [_number(end) for end in ends]
    return listed[0] if len(listed) == 1 else {"range": listed}


def _number(value: int) -> int | str:
    """Whatever has room in 64 bits is a number with a sign."""
    if value < 1 << 64:
        return value - (1 << 64) if value >= 1 << 63 else value
    return f"{value:#x}"
