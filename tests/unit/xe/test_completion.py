"""What bash offers after some words of `xe`; the answers come from the real commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

Offered: TypeAlias = Callable[[str], list[str]]
ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "packaging" / "bash-completion" / "xe"
NETWORK = "b0000000-0000-4000-8000-00000000000"


@pytest.fixture
def offered(tmp_path: Path) -> Offered:
    """A function that says what bash would offer for a line; a trailing bar marks each candidate's end."""
    stub = tmp_path / "xe"
    stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.unit.xe.xe_on_a_world "$@"\n')
    stub.chmod(0o755)

    def ask(line: str) -> list[str]:
        code = f'. "{SCRIPT}"; COMP_LINE=$1; COMP_POINT=${{#1}}; _xe; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run(
            ["bash", "--norc", "-c", code, "bash", line],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
                "LC_ALL": "C.UTF-8",
            },
        )
        assert done.stderr == ""
        return [each for each in done.stdout.split("\n") if each]

    return ask


def test_groups_of_commands_are_offered_first(offered: Offered) -> None:
    found = offered("xe ")
    assert {"network", "vif", "vm", "pool"} <= set(found)
    assert not any("-" in each for each in found)


def test_a_group_is_completed_with_its_hyphen(offered: Offered) -> None:
    assert offered("xe tunn") == ["tunnel-"]


def test_commands_of_a_group_come_with_what_they_do(offered: Offered) -> None:
    assert "tunnel-destroy  -- Destroys a tunnel" in offered("xe tunnel-")


def test_the_only_command_ends_with_a_blank(offered: Offered) -> None:
    assert offered("xe -s h -u root pif-rec") != []
    assert offered("xe network-cr") == ["network-create "]
    assert offered("xe help network-cr") == ["network-create "]


def test_parameters_that_are_not_given_yet_are_offered(offered: Offered) -> None:
    found = offered("xe bond-create network-uuid=x ")
    assert found == ["pif-uuids=", "mac=", "mode=", "properties:", "--dry-run", "--minimal"]


def test_a_dry_run_is_offered_where_there_is_something_to_try(offered: Offered) -> None:
    assert offered("xe bond-create --d") == ["--dry-run"]
    assert "--dry-run" in offered("xe vm-shutdown ")
    assert offered("xe bond-list --d") == []


def test_selectors_are_offered_where_they_are_taken(offered: Offered) -> None:
    assert {"vm=", "power-state=", "force="} <= set(offered("xe vm-shutdown "))


def test_uuids_come_with_names(offered: Offered) -> None:
    assert offered("xe network-param-list uuid=") == [
        f"{NETWORK}1  -- Pool-wide network associated with eth0",
        f"{NETWORK}2  -- storage, fast",
    ]
    assert offered(f"xe vlan-create network-uuid={NETWORK}2") == [f"{NETWORK}2 "]


def test_fields_are_offered_by_name(offered: Offered) -> None:
    assert offered("xe network-list params=uuid,name-l") == ["uuid,name-label"]
    assert offered("xe network-param-add param-name=") == ["other-config", "tags", "purpose"]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("xe pif-reconfigure-ip mode=", ["dhcp", "static", "none"]),
        ("xe bond-create mode=l", ["lacp "]),
        ("xe vif-param-set locking-mode=", ["network_default", "locked", "unlocked", "disabled"]),
        ("xe vif-unplug force=t", ["true "]),
        ("xe vm-start vm=w", ["web "]),
        ("xe network-list bridge=", ["xapi1", "xenbr0"]),
    ],
)
def test_values_are_offered(offered: Offered, line: str, values: list[str]) -> None:
    assert offered(line) == values
