"""The files of legacy drivers: read as the manual writes them, and written without disturbing anything else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolnet.hostd.sriov.modprobe import Damaged, ModuleOption, option_in, value_of, with_value

MANUAL = """\
## VFs-param: max_vfs
## VFs-maxvfs-by-default: 7
## VFs-maxvfs-by-user: 4
options igb max_vfs=0
"""


def file(default: str = "7", user: str = "", param: str = "max_vfs") -> str:
    return f"# VFs-param: {param}\n# VFs-maxvfs-by-default: {default}\n# VFs-maxvfs-by-user: {user}\n"


def test_the_file_of_the_manual() -> None:
    assert option_in(MANUAL) == ModuleOption(param="max_vfs", count_max=4)
    assert with_value(MANUAL, "igb", "max_vfs", "4,4") == MANUAL.replace("max_vfs=0", "max_vfs=4,4")


@pytest.mark.parametrize(
    ("user", "most"),
    [
        ("", 7),
        ("4", 4),
        ("0", 0),
        ("7", 7),
        ("8", 7),
        ("65536", 7),
        ("four", 7),
        ("-1", 7),
        ("4 5", 7),
        ("٤", 7),
    ],
)
def test_the_users_maximum_counts_up_to_the_default(user: str, most: int) -> None:
    assert option_in(file(user=user)) == ModuleOption(param="max_vfs", count_max=most)


@pytest.mark.parametrize("default", ["", "seven", "-7", "7.0", "99999999999"])
def test_without_a_default_the_file_is_damaged(default: str) -> None:
    with pytest.raises(Damaged, match="VFs-maxvfs-by-default"):
        option_in(file(default=default))


def test_a_name_that_is_none_is_damage() -> None:
    with pytest.raises(Damaged, match="VFs-param"):
        option_in(file(param="max vfs=1"))


@pytest.mark.parametrize(
    "text", ["", "options igb max_vfs=7\n", "#VFs-param: max_vfs\n", "### VFs-param: max_vfs\n"]
)
def test_a_file_about_something_else_names_no_option(text: str) -> None:
    assert option_in(text) is None


def test_the_first_of_each_key_counts() -> None:
    assert option_in(file(default="7") + file(default="3")) == ModuleOption(param="max_vfs", count_max=7)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "options igb max_vfs=7\n"),
        ("# x", "# x\noptions igb max_vfs=7\n"),
        ("options igb max_vfs=7\n", "options igb max_vfs=7\n"),
        ("options igb max_vfs=0 RSS=1 # x\n", "options igb max_vfs=7 RSS=1 # x\n"),
        ("options igb RSS=1\n", "options igb RSS=1 max_vfs=7\n"),
        ("options igb RSS=1", "options igb RSS=1 max_vfs=7"),
        ("options igbvf max_vfs=0\n", "options igbvf max_vfs=0\noptions igb max_vfs=7\n"),
        ("# options igb max_vfs=0\n", "# options igb max_vfs=0\noptions igb max_vfs=7\n"),
        ("options igb xmax_vfs=0\n", "options igb xmax_vfs=0 max_vfs=7\n"),
        ("options\tigb\tmax_vfs=0\r\n", "options\tigb\tmax_vfs=7\r\n"),
        ("options igb max_vfs=1\noptions igb max_vfs=2\n", "options igb max_vfs=7\noptions igb max_vfs=7\n"),
    ],
)
def test_only_the_value_is_written(before: str, after: str) -> None:
    assert with_value(before, "igb", "max_vfs", "7") == after


LINES = st.lists(
    st.sampled_from(
        [
            "# VFs-param: max_vfs",
            "  options igb max_vfs=3",
            "options igb RSS=1",
            "options igbvf max_vfs=1",
            "alias eth0 igb",
            "",
            "\t# x: y",
            "options igb",
        ]
    )
)


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.sampled_from(["0", "7,7"]))
@settings(max_examples=300, deadline=None)
def test_whatever_the_file_says_it_has_the_value_afterwards_and_nothing_else_changed(
    lines: list[str], end: str, ended: bool, value: str
) -> None:
    text = end.join(lines) + (end if ended and lines else "")
    after = with_value(text, "igb", "max_vfs", value)
    assert value_of(after, "igb", "max_vfs") == value
    assert with_value(after, "igb", "max_vfs", value) == after
    was, now = text.splitlines(), after.splitlines()
    assert len(now) - len(was) in {0, 1}
    for old, new in zip(was, now, strict=False):
        if old != new:
            assert old.split()[:2] == ["options", "igb"]
            assert [word for word in old.split() if not word.startswith("max_vfs=")] == [
                word for word in new.split() if not word.startswith("max_vfs=")
            ]
