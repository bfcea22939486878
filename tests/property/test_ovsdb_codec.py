"""A row is the same after it was kept in an OVSDB server's columns, whatever is in it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from poolnet.db.body import decode_body, encode_body
from poolnet.db.engine import StoredRow
from poolnet.db.ovsdb_schema import columns_of, merged_schema, row_id, row_of, schema, text_in, text_out
from poolnet.db.shape import SHAPES, Shape
from poolnet.model.registry import ENUMS
from poolnet.model.types import (
    BoolT,
    DateTimeT,
    EnumT,
    FloatT,
    IntT,
    MapT,
    OptionT,
    Ref,
    Row,
    SetT,
    WireType,
)
from poolnet.ovsdb.values import Json, Value, decode, encode

KEPT = [shape for shape in SHAPES.values() if shape.durable]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\0\\0"), max_size=12)
MOMENTS = st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2999, 1, 1))  # noqa: DTZ001 - the zone is put to it below


def values(wire_type: WireType) -> st.SearchStrategy[Any]:
    match wire_type:
        case BoolT():
            return st.booleans()
        case IntT():
            return st.integers(-(2**63), 2**63 - 1)
        case FloatT():
            return st.floats(allow_nan=False, allow_infinity=False)
        case DateTimeT():
            return MOMENTS.map(lambda at: at.replace(tzinfo=dt.UTC))
        case EnumT(name):
            return st.sampled_from(list(ENUMS[name]))
        case SetT(item):
            return st.lists(values(item), max_size=4).map(tuple)
        case MapT(key, value):
            return st.dictionaries(values(key), values(value), max_size=4)
        case OptionT(item):
            return st.none() | values(item)
        case _:
            return TEXTS


@st.composite
def rows(draw: st.DrawFn) -> tuple[Shape, Row]:
    shape = draw(st.sampled_from(KEPT))
    chosen = draw(st.sets(st.sampled_from(shape.durable), max_size=6))
    fields = {each.attribute: draw(values(each.wire_type)) for each in chosen}
    return shape, shape.row_type(ref=Ref("OpaqueRef:x"), **fields)


def kept(value: Json) -> Json:
    """As a server gives back what it was given: sets and maps sorted, a set of one bare."""
    if isinstance(value, list) and value[0] in ("set", "map"):
        content = value[1]
        assert isinstance(content, list)
        ordered = sorted(content, key=repr)
        return ordered[0] if value[0] == "set" and len(ordered) == 1 else [value[0], ordered]
    return value


@given(rows())
def test_a_row_comes_back_as_it_was(drawn: tuple[Shape, Row]) -> None:
    shape, row = drawn
    stored = StoredRow(class_name=shape.name, ref=row.ref, created=3, modified=5, body=encode_body(row))
    columns = {name: decode(kept(encode(value))) for name, value in columns_of(stored, 7).items()}
    assert not any("\0" in str(value) for value in columns.values())
    position, again = row_of(shape.name, columns)
    assert (position, again.ref, again.created, again.modified) == (7, row.ref, 3, 5)
    assert decode_body(shape.name, row.ref, again.body) == row


@given(TEXTS)
def test_every_text_comes_back(text: str) -> None:
    assert "\0" not in text_in(text)
    assert text_out(text_in(text)) == text


@given(TEXTS, TEXTS)
def test_no_two_objects_share_a_row(one: str, other: str) -> None:
    assert (row_id(one) == row_id(other)) == (one == other)


def test_a_field_that_is_new_has_its_default_where_nothing_was_stored() -> None:
    """As when the model of a newer version has more fields than the rows that are there."""
    for shape in KEPT:
        row = shape.row_type(ref=Ref("OpaqueRef:x"))
        columns: dict[str, Value] = {each.name: () for each in shape.durable}
        columns |= {
            "row_ref": row.ref,
            "row_created": 1,
            "row_modified": 1,
            "row_position": 1,
            "row_empty": (),
        }
        _, stored = row_of(shape.name, columns)
        assert decode_body(shape.name, row.ref, stored.body) == row


def test_a_server_with_this_schema_needs_no_other() -> None:
    assert merged_schema(schema()) is None
