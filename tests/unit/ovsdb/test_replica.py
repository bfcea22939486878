"""The copy in memory follows the differences that the server sends."""

from __future__ import annotations

import pytest

from poolnet.ovsdb.replica import Replica
from poolnet.ovsdb.values import Json, MalformedError, RowId

SCHEMA: Json = {
    "tables": {
        "T": {
            "columns": {
                "name": {"type": "string"},
                "number": {"type": {"key": "integer", "min": 0, "max": 1}},
                "numbers": {"type": {"key": "integer", "min": 0, "max": "unlimited"}},
                "options": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
            }
        }
    }
}
ONE = RowId("00000000-0000-0000-0000-000000000001")


def replica_with_a_row() -> Replica:
    replica = Replica(SCHEMA)
    row: Json = {"name": "a", "numbers": ["set", [1, 2]], "options": ["map", [["k", "v"], ["l", "w"]]]}
    replica.apply({"T": {str(ONE): {"initial": row}}})
    return replica


def change(replica: Replica, columns: Json) -> None:
    replica.apply({"T": {str(ONE): {"modify": columns}}})


def test_a_set_toggles_the_members_that_are_sent() -> None:
    replica = replica_with_a_row()
    change(replica, {"numbers": ["set", [2, 3]]})
    assert set(replica.rows("T")[ONE]["numbers"]) == {1, 3}  # type: ignore[arg-type]
    change(replica, {"numbers": 1})
    assert replica.rows("T")[ONE]["numbers"] == (3,)


def test_a_map_drops_equal_pairs_and_takes_the_others() -> None:
    replica = replica_with_a_row()
    change(replica, {"options": ["map", [["k", "v"], ["l", "changed"], ["m", "new"]]]})
    assert replica.rows("T")[ONE]["options"] == {"l": "changed", "m": "new"}


def test_a_column_of_at_most_one_value_is_replaced() -> None:
    replica = replica_with_a_row()
    change(replica, {"number": 4})
    change(replica, {"number": 5, "name": "b"})
    assert (replica.rows("T")[ONE]["number"], replica.rows("T")[ONE]["name"]) == (5, "b")
    change(replica, {"number": ["set", []]})
    assert replica.rows("T")[ONE]["number"] == ()


def test_a_row_that_changes_is_another_object() -> None:
    replica = replica_with_a_row()
    before = replica.rows("T")[ONE]
    change(replica, {"name": "b"})
    assert before["name"] == "a"
    assert replica.row("T", ONE) is not before


def test_a_deleted_row_is_gone() -> None:
    replica = replica_with_a_row()
    assert replica.apply({"T": {str(ONE): {"delete": None}}}) == {"T": {ONE}}
    assert replica.row("T", ONE) is None


@pytest.mark.parametrize(
    "updates",
    [
        None,
        {"T": []},
        {"T": {"x": {"modify": {"name": "a"}}}},
        {"T": {"x": {"transmute": {}}}},
        {"T": {"x": {"insert": {"name": ["bag", []]}}}},
    ],
)
def test_what_does_not_fit_is_refused(updates: Json) -> None:
    with pytest.raises(MalformedError):
        replica_with_a_row().apply(updates)
