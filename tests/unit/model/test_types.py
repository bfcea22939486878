"""Wire types: their grammar, their zeros, and references that are plain strings."""

from __future__ import annotations

import datetime as dt

import pytest

from poolnet.model import enums
from poolnet.model.annotations import wire_type_of_annotation
from poolnet.model.types import (
    EPOCH,
    NULL,
    EnumT,
    IntT,
    MapT,
    RecordT,
    Ref,
    RefT,
    SetT,
    StringT,
    Value,
    is_null,
    parse_wire_type,
    wire_type_text,
    zero,
)


@pytest.mark.parametrize(
    "text",
    [
        "string",
        "int32",
        "set:ref:PIF",
        "set:set:string",
        "map:string:enum:vif_operations",
        "map:ref:VM:map:string:string",
        "map:int:set:string",
        "option:record:VIF",
        "void",
    ],
)
def test_a_type_is_written_as_it_was_read(text: str) -> None:
    assert wire_type_text(parse_wire_type(text)) == text


def test_a_nested_type_is_read_from_the_outside_in() -> None:
    found = parse_wire_type("map:ref:VIF:set:int")
    assert found == MapT(RefT("VIF"), SetT(IntT()))


@pytest.mark.parametrize(
    "text", ["", "set:", "map:string", "enum:no_such_enum", "string:string", "ref:", "Ref:PIF"]
)
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wire type"):
        parse_wire_type(text)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("str", "string"),
        ("datetime", "datetime"),
        ("Ref[Network]", "ref:network"),
        ("Ref[vlan.VLAN]", "ref:VLAN"),
        ("tuple[Ref[NetworkSriov], ...]", "set:ref:network_sriov"),
        ("Mapping[str, Ref[Blob]]", "map:string:ref:blob"),
        ("Mapping[int, tuple[str, ...]]", "map:int:set:string"),
        ("Mapping[VmOperations, str]", "map:enum:vm_operations:string"),
        ("tuple[VifOperations, ...]", "set:enum:vif_operations"),
    ],
)
def test_an_annotation_stands_for_a_wire_type(annotation: str, text: str) -> None:
    assert wire_type_text(wire_type_of_annotation(annotation)) == text


@pytest.mark.parametrize("annotation", ["bytes", "list[str]", "str | None", "Any"])
def test_an_annotation_that_no_wire_type_has_is_refused(annotation: str) -> None:
    with pytest.raises(ValueError, match="no wire type"):
        wire_type_of_annotation(annotation)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("string", ""),
        ("int", 0),
        ("bool", False),
        ("datetime", EPOCH),
        ("ref:PIF", NULL),
        ("set:string", ()),
        ("map:string:string", {}),
        ("option:int", None),
        ("enum:bond_mode", enums.BondMode.BALANCE_SLB),
    ],
)
def test_every_type_has_a_zero(text: str, value: Value) -> None:
    assert zero(parse_wire_type(text)) == value


def test_a_reference_is_a_plain_string() -> None:
    ref: Ref[object] = Ref("OpaqueRef:1")
    assert type(ref) is str
    assert not is_null(ref)
    assert is_null(NULL)
    assert is_null("")


def test_the_epoch_is_an_aware_moment() -> None:
    assert EPOCH.utcoffset() == dt.timedelta(0)


def test_types_that_look_alike_are_different() -> None:
    assert len({RefT("VM"), RecordT("VM"), EnumT("VM"), StringT()}) == 4
