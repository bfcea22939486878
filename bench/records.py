"""How fast are records answered? All VIFs at once, and one VIF at a time, each beside the same bytes from memory."""

from __future__ import annotations

from bench.figure import Figure, duration, rate
from bench.server import fill, serving

RECORDS = 10_000
RUNS = 40
CALLS = 2_000


async def figures() -> list[Figure]:
    """Both figures, from one server."""
    async with serving() as served:
        vifs = await fill(served, RECORDS)
        block = await served.answer_bytes("VIF.get_all_records")
        served.fixed["bench.all"] = block
        served.fixed["bench.one"] = await served.answer_bytes("VIF.get_record", vifs[0])
        whole, whole_floor = await served.alternate(
            served.body("VIF.get_all_records"), served.body("bench.all"), rounds=RUNS
        )
        one, one_floor = await served.alternate(
            served.body("VIF.get_record", vifs[RECORDS // 2]),
            served.body("bench.one"),
            rounds=20,
            calls=CALLS // 20,
        )
    megabytes = len(block) / 1e6
    return [
        duration(
            f"VIF.get_all_records of {RECORDS:,} records ({megabytes:.1f} MB)",
            whole,
            whole_floor,
            floor_name="the same bytes from memory",
            wanted=1.5,
        ),
        rate("VIF.get_record", one, one_floor, floor_name="a fixed answer of that size", unit="calls/s"),
    ]
