"""Whatever a host's network was, it becomes what is desired, as if it had never been anything else (200 random states).

Every state is reached from the one before it and then, once more, from nothing. The switch's rows and flows, and the
kernel's addresses, must be the same both times, and nothing may be left to do.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from poolnet.hostd.openvswitch import marks
from poolnet.hostd.openvswitch.ofports import OFPORT_MIN
from poolnet.hostnet.match import mismatches
from poolnet.hostnet.state import EMPTY, HostNetwork
from tests.lab.hostd_rig import Rig, with_rig
from tests.property.host_networks import DEVICES, NICS, networks

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

STATES = 200
_COLUMNS = {
    "Bridge": "name,ports,fail_mode,datapath_type,other_config,external_ids,mcast_snooping_enable",
    "Port": "name,_uuid,interfaces,tag,trunks,vlan_mode,bond_mode,lacp,other_config,external_ids",
    "Interface": "name,_uuid,ofport,type,mac,mtu_request,options,external_ids,ingress_policing_rate",
}
_CHOSEN = ("_uuid", "ports", "interfaces", "ofport")
_COUNTERS = re.compile(r" duration=[^ ]*| n_packets=\d+,| n_bytes=\d+,")


def test_a_state_does_not_depend_on_the_one_before(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        rig.cable("eth1", "sw1")
        rig.cable("eth2", "sw2")
        rig.cable("eth3", "sw3")
        for number, device in enumerate(DEVICES):
            rig.sh("ip", "link", "add", device, "type", "veth", "peer", "name", f"guest{number}")
            rig.sh("ip", "link", "set", device, "up")
        loop, rollouts = asyncio.get_running_loop(), iter(range(10 * STATES))

        async def reach(state: HostNetwork) -> Mapping[str, Any]:
            await rig.roll_out(state, f"r{next(rollouts)}")
            assert mismatches(await rig.observe(), state) == ()
            assert (await rig.plan_to(state)).steps == ()
            return found(rig)

        async def check(before: HostNetwork, state: HostNetwork) -> None:
            try:
                after_another = await reach(state)
                await rig.roll_out(EMPTY, f"r{next(rollouts)}")
                from_nothing = await reach(state)
                for key, lines in from_nothing.items():
                    assert _delta(after_another[key], lines) == [], key
            except Exception as error:
                error.add_note(f"from {before}\nto {state}")
                raise

        # Examples are made in another thread; only this one is in the rig's network. Each depends on the one before,
        # so that none can be made smaller.
        states = [EMPTY]

        @settings(
            max_examples=STATES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=tuple(HealthCheck),
        )
        @given(networks(links=((("gro", "off"),),)))
        def case(state: HostNetwork) -> None:
            asyncio.run_coroutine_threadsafe(check(states[-1], state), loop).result()
            states.append(state)

        await asyncio.to_thread(case)

    with_rig(tmp_path, body, nics=NICS)


def _delta(one: list[str], other: list[str]) -> list[str]:
    return [
        *(f"- {line}" for line in sorted((Counter(one) - Counter(other)).elements())),
        *(f"+ {line}" for line in sorted((Counter(other) - Counter(one)).elements())),
    ]


def found(rig: Rig) -> Mapping[str, list[str]]:
    """What the switch and the kernel have, a line for each thing, without what is counted, chosen or timed."""
    rows = {table: _rows(rig, table, columns) for table, columns in _COLUMNS.items()}
    interfaces = {_one(row["_uuid"]): row for row in rows["Interface"]}
    ports = {_one(row["_uuid"]): row for row in rows["Port"]}
    flows: list[str] = []
    for bridge in rows["Bridge"]:
        members = [interfaces[i] for port in _many(bridge["ports"]) for i in _many(ports[port]["interfaces"])]
        numbers = {member["ofport"]: member["name"] for member in members}
        flows += _flows(rig, bridge["name"], numbers)
    addresses = (line.split() for line in rig.sh("ip", "-4", "-o", "addr").splitlines())
    return {
        **{table: sorted(_without_choices(row) for row in each) for table, each in rows.items()},
        "flows": sorted(flows),
        "addresses": sorted(f"{words[1]} {words[3]}" for words in addresses),
    }


def _rows(rig: Rig, table: str, columns: str) -> list[dict[str, Any]]:
    said = json.loads(rig.sh("ovs-vsctl", "--format=json", f"--columns={columns}", "list", table))
    return [dict(zip(said["headings"], row, strict=True)) for row in said["data"]]


def _one(value: list[str]) -> str:
    return value[1]


def _many(value: Any) -> list[str]:
    """The identities of a set, which is written bare when it has one member."""
    return [each[1] for each in value[1]] if value[0] == "set" else [value[1]]


def _without_choices(row: dict[str, Any]) -> str:
    """Which port number is next depends on those given out before; a lock stays while it means the same."""
    ids = {key: _meaning(key, text) for key, text in row["external_ids"][1] if key != marks.NEXT_OFPORT}
    kept = {key: value for key, value in row.items() if key not in _CHOSEN}
    return json.dumps({**kept, "external_ids": ids}, sort_keys=True)


def _meaning(key: str, text: str) -> Any:
    if key != marks.LOCK:
        return text
    lock = json.loads(text)
    addresses = [address.removesuffix("/32") for address in lock["ipv4_allowed"]]
    return {**lock, "ipv4_allowed": addresses if lock["mode"] == "locked" else []}


def _flows(rig: Rig, bridge: str, numbers: Mapping[Any, str]) -> Iterator[str]:
    """The flows of a bridge, with names for the numbers of guest ports, which cookies have in them as well."""
    for line in rig.flows(bridge).splitlines():
        text = _COUNTERS.sub("", line)
        if text.endswith(" priority=0 actions=NORMAL"):
            text = " priority=0 actions=NORMAL"  # the switch's own flow, or ours: it had one before it had an uplink
        for number, name in numbers.items():
            if isinstance(number, int) and number >= OFPORT_MIN:
                text = re.sub(rf"(in_port=|output:|:){number}\b", rf"\g<1>{name}", text)
                text = re.sub(rf"cookie=0x[0-9a-f]*{number:x}\b", f"cookie={name}", text)
        yield f"{bridge}: {text}"
