"""What the commands that explain placement and changes by hand print: a matrix, reasons with their commands, fields beside each other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from poolnet.xe.commands.run import run
from tests.golden.xe_world import Terminal, World

PLACEMENT = {
    "hosts": [{"host": "h1", "name-label": "host1"}, {"host": "h2", "name-label": "second"}],
    "vms": [
        {
            "vm": "v1",
            "name-label": "web",
            "hosts": [
                {"host": "h1", "possible": True, "obstacles": [], "remarks": []},
                {
                    "host": "h2",
                    "possible": False,
                    "obstacles": [
                        {
                            "error": ["VM_REQUIRES_NETWORK", "v", "n"],
                            "because": "second does not have network blue: it has no VLAN 20 on eth1",
                            "fix": "xe vlan-create network-uuid=n pif-uuid=p vlan=20",
                        }
                    ],
                    "remarks": [],
                },
            ],
        },
        {
            "vm": "v2",
            "name-label": "data",
            "hosts": [
                {
                    "host": host,
                    "possible": True,
                    "obstacles": [],
                    "remarks": [{"because": "eth1 is unplugged", "fix": "xe pif-plug uuid=p"}],
                }
                for host in ("h1", "h2")
            ],
        },
    ],
}
DRIFT = [
    {"host": "h1", "name-label": "host1", "policy": "leave", "in-step": True, "fields": []},
    {
        "host": "h2",
        "name-label": "second",
        "policy": "leave",
        "in-step": False,
        "fields": [
            {
                "subject": "bridge xapi1",
                "field": "vlan_tag",
                "intended": "20",
                "applied": "20",
                "actual": "30",
            },
            {
                "subject": "bridge xenbr2",
                "field": "",
                "intended": "present",
                "applied": "present",
                "actual": "absent",
            },
        ],
    },
    {"host": "h3", "name-label": "third", "in-step": None, "reason": "the host is down", "fields": []},
]


class Answers(World):
    """A pool whose hosts answer with what is given."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__({}, [])
        self._answers = answers

    async def call(self, method: str, *args: Any) -> Any:
        return json.dumps(self._answers[method])


def said(*words: str) -> tuple[int | None, list[str]]:
    terminal = Terminal()
    answers = {"VM.explain_placement": PLACEMENT, "host.explain_network_drift": DRIFT}
    asyncio.run(run([*words, "username=root", "password=null"], terminal, Answers(answers)))
    return terminal.code, terminal.out.splitlines()


def test_the_matrix_and_every_reason_below_it() -> None:
    code, lines = said("vm-explain-placement")
    assert code == 0
    assert lines == [
        "      host1  second",
        "web   yes    no",
        "data  yes*   yes*",
        "",
        "web on second:",
        "  VM_REQUIRES_NETWORK: second does not have network blue: it has no VLAN 20 on eth1",
        "    xe vlan-create network-uuid=n pif-uuid=p vlan=20",
        "",
        "data on host1, second:",
        "  * eth1 is unplugged",
        "    xe pif-plug uuid=p",
    ]


def test_for_programs_it_is_what_the_api_answers() -> None:
    code, lines = said("vm-explain-placement", "--json")
    assert (code, json.loads("\n".join(lines))) == (0, PLACEMENT)
    code, lines = said("host-network-drift", "--json")
    assert (code, json.loads("\n".join(lines))) == (1, DRIFT)


@pytest.mark.parametrize(
    ("command", "listed"), [("vm-explain-placement", ""), ("host-network-drift", "h2,h3")]
)
def test_minimal_lists_what_is_wrong(command: str, listed: str) -> None:
    assert "".join(said(command, "--minimal")[1]) == listed


def test_three_values_of_each_field_and_a_status_for_scripts() -> None:
    code, lines = said("host-network-drift")
    assert code == 1
    assert lines == [
        "host1 is as intended",
        "second differs; the pool's policy is leave",
        "  subject        field     intended  applied  actual",
        "  bridge xapi1   vlan_tag  20        20       30",
        "  bridge xenbr2  -         present   present  absent",
        "third cannot be asked: the host is down",
    ]
