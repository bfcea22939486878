from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.filter import parse, select
from poolnet.model.classes.vif import VIF
from poolnet.model.errors import Failure
from tests.unit.db.rows import a_network, a_vif, create

WORDS = ("true", "false", "and", "or", "not", "field", "=", "(", ")", '"device"', '"1"', '"', "x", " ")


def a_leaf() -> st.SearchStrategy[tuple[str, frozenset[str]]]:
    devices = st.sampled_from("012")
    return st.one_of(
        st.just(("true", frozenset("012"))),
        st.just(("false", frozenset[str]())),
        devices.map(lambda device: (f'field "device"="{device}"', frozenset(device))),
        st.just(('field "network"="NETWORK"', frozenset("01"))),
    )


Meaning = tuple[str, frozenset[str]]


def combine(inner: st.SearchStrategy[Meaning]) -> st.SearchStrategy[Meaning]:
    """Expressions with every operand in parentheses, so that their meaning is beyond doubt."""
    return st.one_of(
        st.tuples(inner, inner).map(lambda two: (f"({two[0][0]}) and ({two[1][0]})", two[0][1] & two[1][1])),
        st.tuples(inner, inner).map(lambda two: (f"({two[0][0]})or({two[1][0]})", two[0][1] | two[1][1])),
        inner.map(lambda one: (f"not({one[0]})", frozenset("012") - one[1])),
    )


@given(st.recursive(a_leaf(), combine, max_leaves=20))
def test_an_expression_chooses_what_sets_say(meaning: Meaning) -> None:
    expression, expected = meaning
    database = Database.open(MemoryEngine())
    network = a_network()
    create(
        database, network, a_vif(network.ref, device="0"), a_vif(network.ref, device="1"), a_vif(device="2")
    )
    chosen = parse(expression.replace("NETWORK", network.ref))
    assert {row.device for row in select(database.view, VIF, chosen)} == expected


@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(WORDS)).map("".join),
        st.lists(st.sampled_from(WORDS)).map(" ".join),
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    database = Database.open(MemoryEngine())
    create(database, a_vif(device="1"))
    refused = None
    try:
        select(database.view, VIF, parse(text))
    except Failure as failure:
        refused = failure
    assert refused is None or (refused.code, refused.params[0]) == ("INVALID_VALUE", text)
