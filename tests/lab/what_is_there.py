"""What do the switch and the kernel of a rig have? Lines to compare, without what is counted, chosen or timed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from poolnet.hostd.netlink_links import OUR_GROUP
from poolnet.hostd.openvswitch import marks
from poolnet.hostd.openvswitch.ofports import OFPORT_MIN
from tests.lab.hostd_rig import Rig

Found = Mapping[str, list[str]]

_COLUMNS = {
    "Bridge": "name,ports,fail_mode,datapath_type,other_config,external_ids,mcast_snooping_enable",
    "Port": "name,_uuid,interfaces,tag,trunks,vlan_mode,bond_mode,lacp,other_config,external_ids",
    "Interface": "name,_uuid,ofport,type,mac,mtu_request,options,external_ids,ingress_policing_rate",
}
_CHOSEN = ("_uuid", "ports", "interfaces", "ofport")
_COUNTERS = re.compile(r" duration=[^ ]*| n_packets=\d+,| n_bytes=\d+,")
_SETTINGS = {  # of a link, by its kind, that we decide
    "bridge": ("forward_delay", "stp_state", "mcast_snooping"),
    "bond": (
        "mode",
        "miimon",
        "updelay",
        "downdelay",
        "xmit_hash_policy",
        "ad_lacp_rate",
        "ad_user_port_key",
    ),
    "vlan": ("protocol", "id"),
}


def found(rig: Rig) -> Found:
    """Everything, a line for each thing."""
    addresses = (line.split() for line in rig.sh("ip", "-4", "-o", "addr").splitlines())
    both = {"addresses": sorted(f"{words[1]} {words[3]}" for words in addresses)}
    return both | (_switch(rig) if rig.backend == "openvswitch" else _kernel(rig))


def differences(one: Found, other: Found) -> list[str]:
    """The lines that only one of the two has."""
    return [
        f"{sign} {key}: {line}"
        for key in one.keys() | other.keys()
        for sign, mine, yours in (("-", one, other), ("+", other, one))
        for line in sorted((Counter(mine.get(key, ())) - Counter(yours.get(key, ()))).elements())
    ]


def _kernel(rig: Rig) -> dict[str, list[str]]:
    links = json.loads(rig.sh("ip", "-d", "-j", "link"))
    return {
        "links": sorted(filter(None, (_link(link) for link in links))),
        "rules": sorted(line.strip() for line in rig.sh("nft", "-s", "list", "ruleset").splitlines()),
    }


def _link(link: Mapping[str, Any]) -> str:
    """A link that is ours or a port of one; "" for others."""
    ours = link.get("group") == str(OUR_GROUP)
    if not ours and "master" not in link:
        return ""
    kind = link.get("linkinfo", {}).get("info_kind", "")
    data = link.get("linkinfo", {}).get("info_data", {})
    shown = {"name": link["ifname"], "up": "UP" in link["flags"], "mtu": link["mtu"]}
    shown |= {key: link[key] for key in ("master", "link") if key in link and (ours or key == "master")}
    if ours:
        shown |= {"kind": kind, "mac": link["address"]}
        shown |= {key: data.get(key) for key in _SETTINGS.get(kind, ())}
    return json.dumps(shown, sort_keys=True)


def _switch(rig: Rig) -> dict[str, list[str]]:
    rows = {table: _rows(rig, table, columns) for table, columns in _COLUMNS.items()}
    interfaces = {_one(row["_uuid"]): row for row in rows["Interface"]}
    ports = {_one(row["_uuid"]): row for row in rows["Port"]}
    flows: list[str] = []
    for bridge in rows["Bridge"]:
        members = [interfaces[i] for port in _many(bridge["ports"]) for i in _many(ports[port]["interfaces"])]
        numbers = {member["ofport"]: member["name"] for member in members}
        flows += _flows(rig, bridge["name"], numbers)
    tables = {table: sorted(_without_choices(row) for row in each) for table, each in rows.items()}
    return {**tables, "flows": sorted(flows)}


def _rows(rig: Rig, table: str, columns: str) -> list[dict[str, Any]]:
    said = json.loads(
        rig.sh("ovs-vsctl", "--timeout=30", "--format=json", f"--columns={columns}", "list", table)
    )
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
