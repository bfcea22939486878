"""No text or number that a hostile API server could put into a desired state gets past the host daemon's door."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolnet.hostnet import protocol
from poolnet.hostnet.state import HostNetwork
from poolnet.hostnet.wellformed import malformed, malformed_action
from tests.property.host_networks import networks

HOSTILE = (
    "../../etc/passwd",
    "/dev/sda",
    "a/b",
    "..",
    "--help",
    "-x",
    "a b",
    "a;reboot",
    "$(reboot)",
    "`id`",
    "a\nb",
    "a\0b",
    'x" }; flush ruleset',
    "x,drop",
    "{1}",
    "%s%n",
    "ｅｔｈ０",
    "x" * 5000,
)
FREE = {"name"}  # of a guest: a label that is only ever an argument of its own


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each text and number in a value, and where it is."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from leaves(each, (*path, number))
    elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        yield path, value


def with_leaf(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        return {**value, path[0]: with_leaf(value[path[0]], path[1:], new)}
    return [with_leaf(each, path[1:], new) if n == path[0] else each for n, each in enumerate(value)]


def refused(built: Any) -> bool:
    """Whether the daemon does not take it: the types forbid it, or what they leave open is malformed."""
    try:
        network = msgspec.convert(built, HostNetwork)
    except msgspec.ValidationError:
        return True
    return any(True for _ in malformed(network))


@settings(max_examples=60, deadline=None)
@given(networks(sriov=True), st.data())
def test_a_hostile_text_anywhere_in_a_state_is_refused(network: HostNetwork, data: st.DataObject) -> None:
    assert list(malformed(network)) == []
    built = msgspec.to_builtins(network)
    texts = [path for path, value in leaves(built) if isinstance(value, str)]
    for path in texts:
        hostile = data.draw(st.sampled_from(HOSTILE))
        assert refused(with_leaf(built, path, hostile)), (path, hostile)


@settings(max_examples=30, deadline=None)
@given(networks(sriov=True), st.data())
def test_an_impossible_number_anywhere_is_refused(network: HostNetwork, data: st.DataObject) -> None:
    built = msgspec.to_builtins(network)
    for path in [path for path, value in leaves(built) if isinstance(value, int)]:
        number = data.draw(st.sampled_from((-2, -(2**40), 2**60)))
        assert refused(with_leaf(built, path, number)), (path, number)


@given(st.text(max_size=40), st.sampled_from(["ipv4_address", "ipv4_gateway"]))
def test_what_passes_for_an_address_is_one(text: str, field: str) -> None:
    bridge = {"name": "xenbr0", "ip": {"ipv4_mode": "static", field: text}}
    if not refused({"bridges": [bridge]}):
        assert set(text) <= set("0123456789abcdefABCDEF.:/")


GUEST = {"vm_uuid": "v-1", "name": "web", "domid": 1, "nics": [{"device": 0, "mac": "02:00:00:00:00:01"}]}
ACTIONS: tuple[dict[str, Any], ...] = (
    {"type": "CreateGuest", "guest": GUEST},
    {"type": "ResumeGuest", "guest": GUEST},
    {"type": "ReceiveGuest", "guest": GUEST},
    {"type": "DestroyGuest", "vm_uuid": "v-1"},
    {"type": "PlugNic", "vm_uuid": "v-1", "nic": {"device": 1, "mac": "02:00:00:00:00:01"}},
    {"type": "UnplugNic", "vm_uuid": "v-1", "device": 1},
)


@pytest.mark.parametrize("built", ACTIONS, ids=lambda built: built["type"])
def test_a_hostile_text_in_what_is_done_to_guests_is_refused(built: dict[str, Any]) -> None:
    good: protocol.GuestAction = msgspec.convert(built, protocol.GuestAction)
    assert list(malformed_action(good)) == []
    for path, value in leaves(built):
        if path[-1] in FREE:
            continue
        for hostile in HOSTILE if isinstance(value, str) else (-1, 2**70):
            try:
                changed: protocol.GuestAction = msgspec.convert(
                    with_leaf(built, path, hostile), protocol.GuestAction
                )
            except msgspec.ValidationError:
                continue
            assert any(True for _ in malformed_action(changed)), (path, hostile)
