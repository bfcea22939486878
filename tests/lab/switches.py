"""What does a lab host's switch have? Asked in the way of its backend, and never of poolnet itself."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from tests.lab.running import BACKEND, RunningLab

ON_OPEN_VSWITCH = BACKEND == "openvswitch"
_KERNEL_MODES = {"active-backup": "active-backup", "balance-slb": "xor", "lacp": "802.3ad"}


_PROBES = {
    "vxlan": "ip link add probe type vxlan id 1 dstport 4789",
    "gretap": "ip link add probe type gretap key 1",
    "ip6gretap": "ip link add probe type ip6gretap key 1",
    "vlan": "ip link add one type veth peer name two && ip link add link one name probe type vlan id 5",
    "bond": "ip link add probe type bond",
}


def kernel_has(kind: str) -> bool:
    """Can this machine's kernel make links of that kind? Open vSwitch in user space does without."""
    words = ("unshare", "--net", "sh", "-c", _PROBES[kind])
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def links(lab: RunningLab, host: str) -> list[dict[str, Any]]:
    """The links that the host's kernel has."""
    found: list[dict[str, Any]] = json.loads(lab.run(host, "ip", "-j", "-d", "link"))
    return found


def bridges(lab: RunningLab, host: str) -> set[str]:
    """The bridges, without those that only guests are connected to."""
    if ON_OPEN_VSWITCH:
        names = set(lab.run(host, "ovs-vsctl", "list-br").split())
        return {name for name in names if name.removesuffix("v") not in names - {name}}
    return {link["ifname"] for link in links(lab, host) if _kind(link) == "bridge"}


def tags(lab: RunningLab, host: str) -> set[int]:
    """The VLANs that have bridges of their own."""
    if ON_OPEN_VSWITCH:
        text = lab.run(host, "ovs-vsctl", "--bare", "--columns=tag", "find", "Port", "fake_bridge=true")
        return {int(word) for word in text.split()}
    vlans = (link for link in links(lab, host) if _kind(link) == "vlan")
    return {link["linkinfo"]["info_data"]["id"] for link in vlans if not link["link"].startswith("vif")}


def guest_ports(lab: RunningLab, host: str) -> set[str]:
    """The guests' interfaces that are connected."""
    if ON_OPEN_VSWITCH:
        names = lab.run(host, "ovs-vsctl", "--bare", "--columns=name", "list", "Port").split()
        return {name for name in names if name.startswith("vif")}
    guests = (link for link in links(lab, host) if link["ifname"].startswith("vif") and _kind(link) != "vlan")
    return {link["ifname"] for link in guests if "master" in link}


def bonds(lab: RunningLab, host: str) -> set[str]:
    """The bonds of more than one member on Open vSwitch, and all of them on Linux bridges."""
    if ON_OPEN_VSWITCH:
        return set(re.findall(r"^---- (\S+) ----$", lab.run(host, "ovs-appctl", "bond/show"), re.MULTILINE))
    return {link["ifname"] for link in links(lab, host) if _kind(link) == "bond"}


def bond_mode(lab: RunningLab, host: str, bond: str) -> str:
    """One of the API's modes; Open vSwitch speaks LACP beside a mode for the traffic."""
    if ON_OPEN_VSWITCH:
        lacp, mode = (
            lab.run(host, "ovs-vsctl", "get", "Port", bond, name).strip() for name in ("lacp", "bond_mode")
        )
        return "lacp" if lacp == "active" else mode
    (told,) = (link for link in links(lab, host) if link["ifname"] == bond)
    kernel = told["linkinfo"]["info_data"]["mode"]
    return next(mode for mode, text in _KERNEL_MODES.items() if text in kernel)


def enabled(lab: RunningLab, host: str, bond: str) -> set[str]:
    """The members that the switch uses."""
    if ON_OPEN_VSWITCH:
        lines = lab.run(host, "ovs-appctl", "bond/show", bond, check=False).splitlines()
        return {
            line.split()[1].rstrip(":") for line in lines if line.startswith("member") and "enabled" in line
        }
    text = lab.run(host, "cat", f"/proc/net/bonding/{bond}", check=False)
    head, *members = text.split("Slave Interface: ")
    aggregate = re.search(r"Aggregator ID: (\d+)", head)
    return {
        member.split()[0]
        for member in members
        if "MII Status: up" in member and (aggregate is None or f"Aggregator ID: {aggregate[1]}\n" in member)
    }


def active(lab: RunningLab, host: str, bond: str) -> str:
    """A member whose cable is worth pulling: the one that carries what only one may carry."""
    if ON_OPEN_VSWITCH:
        lines = lab.run(host, "ovs-appctl", "bond/show", bond).splitlines()
        return next(
            line.partition("(")[2].rstrip(")") for line in lines if line.startswith("active member mac")
        )
    text = lab.run(host, "cat", f"/proc/net/bonding/{bond}")
    named = re.search(r"Currently Active Slave: (\S+)", text)
    return named[1] if named else min(enabled(lab, host, bond))


def partner(lab: RunningLab, host: str, bond: str) -> str:
    """The MAC address of the other end's LACP system; "" without one."""
    if ON_OPEN_VSWITCH:
        found = re.findall(r"partner sys_id: (\S+)", lab.run(host, "ovs-appctl", "lacp/show", bond))
    else:
        text = lab.run(host, "cat", f"/proc/net/bonding/{bond}")
        found = re.findall(r"Partner Mac Address: (\S+)", text)
    known = {mac for mac in found if mac != "00:00:00:00:00:00"}
    return known.pop() if len(known) == 1 else ""


def _kind(link: dict[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))
