"""The table that closes the NBD port, and what is read of it."""

from __future__ import annotations

from typing import Any

import pytest

from poolnet.hostd.nbd_port import open_on, ruleset
from poolnet.hostnet.state import EVERYWHERE

CHAIN = {"chain": {"name": "nbd", "hook": "input", "type": "filter"}}
RULE = {"rule": {"chain": "nbd", "comment": "poolnet: NBD, 1"}}
SET = {"set": {"name": "nbd_bridges", "elem": ["xenbr1", "xenbr0"]}}


def listing(*items: dict[str, Any]) -> dict[str, Any]:
    return {"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"name": "poolnet"}}, *items]}


def test_the_bridges_of_a_whole_table_are_read() -> None:
    assert open_on(listing(SET, CHAIN, RULE)) == ("xenbr0", "xenbr1")
    assert open_on(listing({"set": {"name": "nbd_bridges"}}, CHAIN, RULE)) == ()


@pytest.mark.parametrize(
    "found",
    [
        None,
        listing(),
        listing(SET, CHAIN),
        listing(SET, RULE, {"chain": {"name": "nbd"}}),
        listing(CHAIN, RULE),
        listing(SET, CHAIN, RULE, {"rule": {"chain": "nbd"}}),
        listing(SET, CHAIN, {"rule": {"chain": "nbd", "comment": "poolnet: NBD, 0"}}),
    ],
)
def test_a_table_that_is_not_whole_closes_nothing(found: dict[str, Any] | None) -> None:
    assert open_on(found) == (EVERYWHERE,)


def test_the_table_is_replaced_in_one_transaction_and_touches_no_other() -> None:
    text = ruleset(["xenbr1", "xapi0"])
    assert text.startswith("table inet poolnet\ndelete table inet poolnet\ntable inet poolnet {\n")
    assert 'elements = { "xapi0", "xenbr1" }' in text
    assert "elements" not in ruleset(())


def test_a_name_that_would_be_more_than_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no name of an interface"):
        ruleset(['x" }; flush ruleset'])
