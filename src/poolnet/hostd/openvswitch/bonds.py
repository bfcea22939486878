"""How are the XenAPI's bond options written in the switch's database, and read back? (spec §9.4, §9.6)."""

from __future__ import annotations

from collections.abc import Mapping

from poolnet.hostd.openvswitch import marks
from poolnet.hostnet.state import BondMode, BondOptions
from poolnet.ovsdb.values import Value, map_of, one_of

_HASHING = "hashing_algorithm"
_HASHING_SRC_MAC = "src_mac"
_AGGREGATION_KEY = "lacp-aggregation-key"
_LACP_KEYS = ("lacp-time", "lacp-fallback-ab")
_MIIMON = "bond-miimon-interval"
_DETECT = "bond-detect-mode"
_REBALANCE = "bond-rebalance-interval"
_WORDS = {
    BondMode.BALANCE_SLB: (("balance-slb", "off"),),
    BondMode.ACTIVE_BACKUP: (("active-backup", "off"),),
    BondMode.LACP: (("balance-tcp", "active"), ("balance-slb", "active")),
}
"""The columns `bond_mode` and `lacp` that each mode has."""


def port_columns(options: BondOptions) -> dict[str, Value]:
    """The columns of a bond's Port, without `external_ids`."""
    properties = dict(options.properties)
    config = {
        _MIIMON: str(options.miimon_ms),
        _DETECT: "carrier" if options.use_carrier else "miimon",
    }
    if options.mode is BondMode.LACP:
        by_mac = properties.get(_HASHING) == _HASHING_SRC_MAC
        bond_mode, lacp = ("balance-slb" if by_mac else "balance-tcp"), "active"
        config |= {key: properties[key] for key in _LACP_KEYS if key in properties}
    else:
        bond_mode, lacp = options.mode.value, "off"
        config[_REBALANCE] = str(options.rebalance_interval_ms)
    known = {_HASHING, _AGGREGATION_KEY, *_LACP_KEYS}
    config |= {f"bond-{key}": value for key, value in properties.items() if key not in known}
    return {
        "bond_mode": (bond_mode,),
        "lacp": (lacp,),
        "bond_updelay": options.updelay_ms,
        "bond_downdelay": options.downdelay_ms,
        "other_config": config,
    }


def member_config(options: BondOptions) -> dict[str, str]:
    """The `other_config` of each member's Interface."""
    key = dict(options.properties).get(_AGGREGATION_KEY, "") if options.mode is BondMode.LACP else ""
    return {_AGGREGATION_KEY: key} if key else {}


def observed(port: Mapping[str, Value], member: Mapping[str, Value]) -> BondOptions:
    """The options that a bond's Port and one of its members' Interfaces have.

    What was asked for is remembered in a mark, because several options mean the same to the switch; it counts as long
    as the columns are what it asks for.
    """
    asked = marks.recall(map_of(port.get("external_ids")).get(marks.BOND, ""), BondOptions)
    there = _read(port, member)
    if asked is not None and _essence(asked) == _essence(there):
        return asked
    return there


def _read(port: Mapping[str, Value], member: Mapping[str, Value]) -> BondOptions:
    config = map_of(port.get("other_config"))
    bond_mode = one_of(port.get("bond_mode"), str, "")
    lacp_column = one_of(port.get("lacp"), str, "off")
    lacp = lacp_column == "active"
    properties: dict[str, str] = {}
    if lacp:
        mode = BondMode.LACP
        properties[_HASHING] = _HASHING_SRC_MAC if bond_mode == "balance-slb" else "tcpudp_ports"
        properties |= {key: config[key] for key in _LACP_KEYS if key in config}
        properties |= map_of(member.get("other_config"))
    else:
        mode = BondMode.BALANCE_SLB if bond_mode == "balance-slb" else BondMode.ACTIVE_BACKUP
    standard = {_MIIMON, _DETECT, _REBALANCE}
    properties |= {
        key.removeprefix("bond-"): value
        for key, value in config.items()
        if key.startswith("bond-") and key not in standard
    }
    if (bond_mode, lacp_column) not in _WORDS[mode]:
        # What nobody asks for is no mode of ours, whatever it does.
        properties |= {"bond_mode": bond_mode, "lacp": lacp_column}
    return BondOptions(
        mode=mode,
        miimon_ms=_number(config.get(_MIIMON, "")),
        updelay_ms=one_of(port.get("bond_updelay"), int, 0),
        downdelay_ms=one_of(port.get("bond_downdelay"), int, 0),
        use_carrier=config.get(_DETECT) != "miimon",
        rebalance_interval_ms=_number(config.get(_REBALANCE, "")),
        properties=tuple(sorted(properties.items())),
    )


def _essence(options: BondOptions) -> tuple[object, ...]:
    """What the options come to in the switch."""
    return port_columns(options), member_config(options)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
