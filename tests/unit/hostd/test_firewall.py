"""The table that closes ports, and what is read of it."""

from __future__ import annotations

from typing import Any

import pytest

from poolnet.hostd.firewall import UNFILTERED, Openings, openings, ruleset

CHAIN = {"chain": {"name": "services", "hook": "input", "type": "filter"}}
HTTP = {"rule": {"chain": "services", "comment": "poolnet: HTTP, 1"}}
RULE = {"rule": {"chain": "services", "comment": "poolnet: NBD, 1"}}
INTERNAL = {"rule": {"chain": "services", "comment": "poolnet: internal, 1"}}
API = {"rule": {"chain": "services", "comment": "poolnet: API, 2"}}
NONE = {"set": {"name": "management_bridges"}}
MANAGEMENT = {"set": {"name": "management_bridges", "elem": ["xenbr0"]}}
SET = {"set": {"name": "nbd_bridges", "elem": ["xenbr1", "xenbr0"]}}
ALWAYS = (INTERNAL, API)


def listing(*items: dict[str, Any]) -> dict[str, Any]:
    return {"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"name": "poolnet"}}, *items]}


def test_what_a_whole_table_opens_is_read() -> None:
    both = ("xenbr0", "xenbr1")
    assert openings(listing(SET, NONE, CHAIN, RULE, *ALWAYS)) == Openings(nbd_bridges=both)
    assert openings(listing({"set": {"name": "nbd_bridges"}}, NONE, CHAIN, RULE, *ALWAYS)) == Openings()
    assert openings(listing(SET, MANAGEMENT, CHAIN, RULE, HTTP, *ALWAYS)) == Openings(
        nbd_bridges=both, http_closed=True, management="xenbr0"
    )


@pytest.mark.parametrize(
    "found",
    [
        None,
        listing(),
        listing(SET, NONE, CHAIN),
        listing(SET, NONE, RULE, {"chain": {"name": "services"}}, *ALWAYS),
        listing(CHAIN, RULE, *ALWAYS),
        listing(SET, CHAIN, RULE, *ALWAYS),
        listing(SET, NONE, CHAIN, RULE),
        listing(SET, NONE, CHAIN, RULE, INTERNAL),
        listing(SET, NONE, CHAIN, HTTP, *ALWAYS),
        listing(SET, NONE, CHAIN, HTTP, RULE, *ALWAYS),
        listing(SET, NONE, CHAIN, RULE, *ALWAYS, {"rule": {"chain": "services"}}),
        listing(SET, NONE, CHAIN, {"rule": {"chain": "services", "comment": "poolnet: NBD, 0"}}, *ALWAYS),
    ],
)
def test_a_table_that_is_not_whole_closes_nothing(found: dict[str, Any] | None) -> None:
    assert openings(found) == UNFILTERED


def test_the_table_is_replaced_in_one_transaction_and_touches_no_other() -> None:
    text = ruleset(Openings(nbd_bridges=("xenbr1", "xapi0")))
    assert text.startswith("table inet poolnet\ndelete table inet poolnet\ntable inet poolnet {\n")
    assert 'elements = { "xapi0", "xenbr1" }' in text
    assert "elements" not in ruleset(Openings())
    assert 'set management_bridges { type ifname; elements = { "xenbr0" }' in ruleset(
        Openings(management="xenbr0")
    )
    assert [" dport 80 " in ruleset(Openings(http_closed=closed)) for closed in (False, True)] == [
        False,
        True,
    ]


def test_a_name_that_would_be_more_than_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no name of an interface"):
        ruleset(Openings(nbd_bridges=('x" }; flush ruleset',)))
    with pytest.raises(ValueError, match="no name of an interface"):
        ruleset(Openings(management='x" }; flush ruleset'))
