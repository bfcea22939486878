"""Values survive the way to the server's JSON and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolnet.ovsdb.values import (
    Json,
    MalformedError,
    NewRow,
    RowId,
    Value,
    all_of,
    decode,
    encode,
    map_of,
    one_of,
)

ATOMS = st.booleans() | st.integers() | st.text() | st.uuids().map(lambda uuid: RowId(str(uuid)))
VALUES = ATOMS | st.lists(ATOMS, max_size=4).map(tuple) | st.dictionaries(st.text(), ATOMS, max_size=4)


@given(value=VALUES)
def test_decode_undoes_encode(value: Value) -> None:
    assert decode(encode(value)) == value


def test_row_identities_keep_their_type() -> None:
    assert isinstance(decode(["uuid", "abc"]), RowId)
    assert encode(NewRow("row1")) == ["named-uuid", "row1"]


@pytest.mark.parametrize("wire", [None, {"a": 1}, ["set", 3], ["map", [["a"]]], ["bag", []], [["uuid", "a"]]])
def test_what_is_no_value_is_refused(wire: Json) -> None:
    with pytest.raises(MalformedError):
        decode(wire)


def test_a_column_reads_the_same_whether_its_only_member_is_bare() -> None:
    assert all_of(7, int) == all_of((7,), int) == (7,)
    assert one_of(7, int, 0) == one_of((7,), int, 0) == 7
    assert one_of((), int, 0) == one_of(None, int, 0) == one_of("7", int, 0) == 0
    assert map_of({"a": "b"}) == {"a": "b"}
    assert map_of(()) == {}
