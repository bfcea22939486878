from __future__ import annotations

import datetime as dt

import pytest

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.filter import MAX_DEPTH, MAX_LENGTH, parse, select, text_form
from poolnet.db.txn import View
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.enums import VifLockingMode
from poolnet.model.errors import Failure
from tests.unit.db.rows import a_network, a_vif, commit, create


def devices(view: View, expression: str) -> str:
    return "".join(row.device for row in select(view, VIF, parse(expression)))


def some_vifs() -> tuple[View, Network]:
    database = Database.open(MemoryEngine())
    network = a_network("n")
    vifs = [a_vif(network.ref if number < 2 else a_vif().network, device=str(number)) for number in range(4)]
    create(database, network, *vifs)
    commit(database, lambda txn: txn.update(VIF, vifs[1].ref, MTU=9000, currently_attached=True))
    commit(
        database,
        lambda txn: txn.update(VIF, vifs[2].ref, qos_algorithm_type="ratelimit", ipv4_allowed=("1",)),
    )
    return database.view, network


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("true", "0123"),
        ("false", ""),
        ("not false", "0123"),
        ('field "device"="2"', "2"),
        ('"2"=field "device"', "2"),
        ('field"device"="2"or(field\t"device" =\n"3")', "23"),
        ('field "MTU"="9000"', "1"),
        ('field "currently_attached"="true"', "1"),
        ('field "qos__algorithm_type"="ratelimit"', "2"),
        ('field "ipv4_allowed"="()"', "013"),
        ('field "ipv4_allowed"="(\'1\')"', "2"),
        ('field "locking_mode"="network_default"', "0123"),
        ('field "reserved"="false"', "0123"),
        ('field "network"="REF"', "01"),
        ('field "network"="REF" and field "device"="1"', "1"),
        ('field "device"="1" and true and field "network"="REF"', "1"),
        ('field "network"="REF" or field "device"="3"', "013"),
        ('not field "network"="REF"', "23"),
        ('not (field "network"="REF") and not (field "device"="2")', "23"),
        ('field "network"="OpaqueRef:NULL"', "23"),
        ('field "uuid"=field "uuid"', "0123"),
        ('"a"="a"', "0123"),
        # and, or: one rank, from the left
        ('field "device"="1" or true and field "device"="0"', "0"),
        # not takes all to its right
        ('not field "device"="1" and field "device"="0"', "0123"),
        ('(not field "device"="1") and (field "device"="0" or field "device"="1")', "0"),
    ],
)
def test_an_expression_chooses_rows(expression: str, found: str) -> None:
    view, network = some_vifs()
    assert devices(view, expression.replace("REF", network.ref)) == found


def test_computed_sets_and_names_are_compared_too() -> None:
    view, network = some_vifs()
    vifs = " ".join(f"'{ref}'" for ref in network.VIFs or view.get(Network, network.ref).VIFs)
    assert select(view, Network, parse(f'field "VIFs"="({vifs})"')) == (view.get(Network, network.ref),)
    assert len(select(view, Network, parse('field "name__label"="n"'))) == 1
    assert len(select(view, Network, parse(f'field "uuid"="{network.uuid}"'))) == 1


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "(",
        ")",
        "()",
        "true)",
        "(true",
        "true true",
        "and",
        "true and",
        "or true",
        "not",
        "true not true",
        "field",
        'field "a"',
        'field "device"=',
        'field "device" "1"',
        'field = "1"',
        '"a"',
        '"a"=field',
        '"a"=field)',
        '"open',
        "device=1",
        "true; drop",
        "(" * (MAX_DEPTH + 2) + "true" + ")" * (MAX_DEPTH + 2),
        "not " * (MAX_DEPTH + 2) + "true",
        "true and " * MAX_LENGTH + "true",
        "\x00",
        "ｔｒｕｅ",
    ],
)
def test_what_is_no_expression_is_an_invalid_value(expression: str) -> None:
    with pytest.raises(Failure) as failure:
        parse(expression)
    assert failure.value.code == "INVALID_VALUE"
    assert failure.value.params[0] == expression[:MAX_LENGTH]
    assert failure.value.params[1]


def test_an_unknown_field_is_an_invalid_value() -> None:
    view, _ = some_vifs()
    for name in ("name_label", "nonsense", "ref"):
        with pytest.raises(Failure) as failure:
            select(view, VIF, parse(f'field "{name}"="x"'))
        assert failure.value.code == "INVALID_VALUE"


def test_deep_and_long_expressions_are_evaluated() -> None:
    view, _ = some_vifs()
    assert devices(view, "(" * MAX_DEPTH + "true" + ")" * MAX_DEPTH) == "0123"
    assert devices(view, "not " * MAX_DEPTH + "true") == "0123"
    assert devices(view, "false or " * 7000 + "true") == "0123"


def test_values_have_the_text_form_of_the_database() -> None:
    moment = dt.datetime(2024, 3, 1, 12, 5, 9, tzinfo=dt.UTC)
    values: tuple[object, ...] = (True, 7, VifLockingMode.LOCKED, moment, {"k": "it's"}, (1, 2), {}, ())
    assert [text_form(value) for value in values] == [
        "true",
        "7",
        "locked",
        "20240301T12:05:09Z",
        "(('k' 'it\\'s'))",
        "('1' '2')",
        "()",
        "()",
    ]
