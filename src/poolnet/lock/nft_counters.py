"""How many frames has each lock stopped, and why, as the table of locks counts them?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from poolnet.lock.nft_chains import counter_set
from poolnet.lock.reasons import DropReason

_REASON_OF = {counter_set(reason): reason for reason in DropReason}


def stopped(listing: Mapping[str, Any], devices: Iterable[str]) -> dict[str, dict[DropReason, int]]:
    """The frames stopped at each of these ports by reason, zeros included, from `nft -j list table bridge poolnet`.

    In shadow mode they are the frames that would have been stopped. Raises KeyError or TypeError when the listing is
    none of nftables'.
    """
    counts = {device: dict.fromkeys(DropReason, 0) for device in devices}
    for item in listing["nftables"]:
        reason = _REASON_OF.get(item.get("set", {}).get("name"))
        if reason is None:
            continue
        for entry in item["set"].get("elem", ()):
            element = entry["elem"]
            if element["val"] in counts:
                counts[element["val"]][reason] = element["counter"]["packets"]
    return counts
