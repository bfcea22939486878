"""The table that closes ports, and what is read of it."""

from __future__ import annotations

from typing import Any

import pytest

from poolnet.hostd.firewall import UNFILTERED, Openings, openings, ruleset

CHAIN = {"chain": {"name": "services", "hook": "input", "type": "filter"}}
HTTP = {"rule": {"chain": "services", "comment": "poolnet: HTTP, 1"}}
RULE = {"rule": {"chain": "services", "comment": "poolnet: NBD, 1"}}
SET = {"set": {"name": "nbd_bridges", "elem": ["xenbr1", "xenbr0"]}}


def listing(*items: dict[str, Any]) -> dict[str, Any]:
    return {"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"name": "poolnet"}}, *items]}


def test_what_a_whole_table_opens_is_read() -> None:
    both = ("xenbr0", "xenbr1")
    assert openings(listing(SET, CHAIN, RULE)) == Openings(nbd_bridges=both)
    assert openings(listing({"set": {"name": "nbd_bridges"}}, CHAIN, RULE)) == Openings()
    assert openings(listing(SET, CHAIN, RULE, HTTP)) == Openings(nbd_bridges=both, http_closed=True)


@pytest.mark.parametrize(
    "found",
    [
        None,
        listing(),
        listing(SET, CHAIN),
        listing(SET, RULE, {"chain": {"name": "services"}}),
        listing(CHAIN, RULE),
        listing(SET, CHAIN, HTTP),
        listing(SET, CHAIN, HTTP, RULE),
        listing(SET, CHAIN, RULE, {"rule": {"chain": "services"}}),
        listing(SET, CHAIN, {"rule": {"chain": "services", "comment": "poolnet: NBD, 0"}}),
    ],
)
def test_a_table_that_is_not_whole_closes_nothing(found: dict[str, Any] | None) -> None:
    assert openings(found) == UNFILTERED


def test_the_table_is_replaced_in_one_transaction_and_touches_no_other() -> None:
    text = ruleset(Openings(nbd_bridges=("xenbr1", "xapi0")))
    assert text.startswith("table inet poolnet\ndelete table inet poolnet\ntable inet poolnet {\n")
    assert 'elements = { "xapi0", "xenbr1" }' in text
    assert "elements" not in ruleset(Openings())
    assert [" dport 80 " in ruleset(Openings(http_closed=closed)) for closed in (False, True)] == [
        False,
        True,
    ]


def test_a_name_that_would_be_more_than_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no name of an interface"):
        ruleset(Openings(nbd_bridges=('x" }; flush ruleset',)))
