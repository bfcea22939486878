"""What is left of the keeper of flows when it is closed: nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from poolnet.hostd.openvswitch.flows import FlowKeeper


def test_a_keeper_that_is_closed_begins_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        keeper = FlowKeeper(tmp_path, tmp_path, lambda _: "", asyncio.Lock(), lambda _: None)
        own = asyncio.current_task()
        keeper.keep(["xapi1", "xapi2"])
        await asyncio.sleep(0)
        keeper.keep(["xapi1"])  # the other one ends, and is waited for below
        assert len(asyncio.all_tasks() - {own}) == 2
        await keeper.close()
        assert asyncio.all_tasks() == {own}
        keeper.keep(["xapi1"])  # the switch tells of it a moment later
        assert asyncio.all_tasks() == {own}

    asyncio.run(body())
