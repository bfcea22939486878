"""What the words of a command mean."""

from __future__ import annotations

import pytest

from poolnet.xe.params import Params, byte_size, integer, items, parse
from poolnet.xe.refusals import BadSyntax, Refused


def test_words_become_pairs_in_order_with_duplicates() -> None:
    name, params = parse(["vif-list", "a=b=c", "bare", "", "a=2", "--minimal", "-u", "root", "-pw", "pw"])
    assert name == "vif-list"
    assert params.pairs == (
        ("a", "b=c"),
        ("bare", ""),
        ("", ""),
        ("a", "2"),
        ("minimal", "true"),
        ("username", "root"),
        ("password", "pw"),
    )
    assert params.get("a") == "b=c"


def test_two_dashes_with_a_value_make_a_strange_key() -> None:
    assert parse(["x", "--force=false"])[1].pairs == (("force=false", "true"),)


def test_an_option_of_ours_takes_its_value_with_two_dashes_too() -> None:
    for word in ("--confirm-within=5", "confirm-within=5"):
        assert parse(["x", word])[1].pairs == (("confirm-within", "5"),)


@pytest.mark.parametrize("words", [[], ["a=b"], ["x", "-q"], ["x", "-u"], ["x", "-x=1"]])
def test_what_cannot_be_parsed_is_refused(words: list[str]) -> None:
    with pytest.raises(BadSyntax):
        parse(words)


def test_maps_take_any_character_for_the_colon_and_ignore_empty_keys() -> None:
    params = Params(
        [("device-config:a", "1"), ("device-config-b", "2"), ("device-config:", "3"), ("device", "4")]
    )
    assert params.mapping("device-config") == {"a": "1", "b": "2"}


@pytest.mark.parametrize("text", ["true", "T", "yes", "Y", "1"])
def test_loose_booleans_are_true(text: str) -> None:
    assert Params([("force", text)]).flag("force")


@pytest.mark.parametrize("text", ["false", "F", "no", "N", "0"])
def test_loose_booleans_are_false(text: str) -> None:
    assert not Params([("force", text)]).flag("force", default=True)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5", 5),
        ("5B", 5),
        ("1KiB", 1024),
        ("2k", 2048),
        ("1mb", 1 << 20),
        ("1 GiB", 1 << 30),
        ("3T", 3 << 40),
    ],
)
def test_sizes_have_suffixes(text: str, size: int) -> None:
    assert byte_size("memory", text) == size


@pytest.mark.parametrize("text", ["", "1.5", "0x10", "9223372036854775808", "٣"])
def test_integers_are_decimal_and_have_64_bits(text: str) -> None:
    with pytest.raises(Refused, match="Failed to parse parameter 'vlan': expecting an integer"):
        integer("vlan", text)


def test_an_empty_list_has_no_items() -> None:
    assert items("") == ()
    assert items("a,,b") == ("a", "", "b")
