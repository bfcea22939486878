"""Which doors are fuzzed? One target for each: what is sent, and how it is played to the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

from tests.fuzz import grammar
from tests.fuzz.world import World


@dataclass(frozen=True, slots=True)
class Target:
    """A door: what is sent to it in one go, and how."""

    sent: st.SearchStrategy[Any]
    play: Callable[[World, Any], Awaitable[None]]


async def _play_xml(world: World, bodies: list[bytes]) -> None:
    for body in bodies:
        await world.post("/RPC2", body)


async def _play_json(world: World, bodies: list[bytes]) -> None:
    for body in bodies:
        await world.post("/jsonrpc", body)


async def _play_cli(world: World, sent: tuple[bytes, bytes]) -> None:
    await world.command_line(*sent)


async def _play_daemon(world: World, frames: list[bytes]) -> None:
    await world.frames(frames)


_xml = grammar.calls().map(lambda call: grammar.xml_body(*call))
_json = st.builds(
    lambda call, version, request_id: grammar.json_body(call[0], call[1], version, request_id),
    grammar.calls(),
    st.sampled_from((None, "2.0")),
    grammar.mostly(st.just(1)),
)

TARGETS: Final[Mapping[str, Target]] = {
    "xmlrpc": Target(st.lists(grammar.spoilt(_xml), min_size=1, max_size=8), _play_xml),
    "jsonrpc": Target(st.lists(grammar.spoilt(_json), min_size=1, max_size=8), _play_json),
    "cli": Target(
        st.tuples(grammar.spoilt(grammar.command_lines()), grammar.spoilt(grammar.cli_frames())), _play_cli
    ),
    "hostd": Target(st.lists(grammar.daemon_frames(), min_size=1, max_size=6), _play_daemon),
}
