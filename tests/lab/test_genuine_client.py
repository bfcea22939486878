"""The genuine XenAPI package, from PyPI, against a host of the lab: it logs in over HTTPS and works (issue 2, show 2).

The table of wrong calls is made from the semantics page: for each situation the code and the parameters that the
reference sends. Parameters that name an object are written as functions of the objects that the test has made.
"""

from __future__ import annotations

import uuid
import xmlrpc.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import XenAPI

from tests.lab.running import RunningLab

pytestmark = pytest.mark.lab

BOGUS = "OpaqueRef:00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def session(lab: RunningLab) -> Iterator[Any]:
    """Logged in over HTTPS, through the lab's forward; certificates are self-signed."""
    host = lab.lab.host("host1")
    session = XenAPI.Session(f"https://127.0.0.1:{host.https_port}", ignore_ssl=True)
    session.xenapi.login_with_password("root", lab.lab.password, "2.21", "genuine client test")
    yield session
    session.xenapi.session.logout()
    session("close")()


@dataclass
class World:
    """The objects that the wrong calls are about."""

    session: Any
    refs: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.refs[name]


def network_record(**fields: Any) -> dict[str, Any]:
    return {"name_label": "n", "name_description": "", "other_config": {}, "MTU": "1500", "tags": []} | fields


def vif_record(world: World, **fields: Any) -> dict[str, Any]:
    return {
        "device": "0",
        "network": world["internal"],
        "VM": world["vm"],
        "MAC": "",
        "MTU": "1500",
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    } | fields


def vm_record(name: str) -> dict[str, Any]:
    return {
        "name_label": name,
        "name_description": "",
        "user_version": "1",
        "is_a_template": False,
        "affinity": "OpaqueRef:NULL",
        "memory_static_max": str(2**28),
        "memory_dynamic_max": str(2**28),
        "memory_dynamic_min": str(2**28),
        "memory_static_min": str(2**27),
        "VCPUs_params": {},
        "VCPUs_max": "1",
        "VCPUs_at_startup": "1",
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "restart",
        "actions_after_crash": "destroy",
        "PV_bootloader": "",
        "PV_kernel": "",
        "PV_ramdisk": "",
        "PV_args": "",
        "PV_bootloader_args": "",
        "PV_legacy_args": "",
        "HVM_boot_policy": "",
        "HVM_boot_params": {},
        "platform": {},
        "PCI_bus": "",
        "other_config": {},
        "recommendations": "",
    }


@pytest.fixture(scope="module")
def world(session: Any) -> World:
    """A network with a running VM's VIF, a VLAN on eth1, and a halted VM."""
    x = session.xenapi
    made = World(session)
    refs = made.refs
    refs["host"] = x.host.get_all()[0]
    pifs = x.PIF.get_all_records()
    refs["eth0"] = next(ref for ref, pif in pifs.items() if pif["device"] == "eth0" and pif["VLAN"] == "-1")
    refs["eth1"] = next(ref for ref, pif in pifs.items() if pif["device"] == "eth1" and pif["VLAN"] == "-1")
    refs["eth0_network"] = pifs[refs["eth0"]]["network"]
    refs["eth1_network"] = pifs[refs["eth1"]]["network"]
    refs["himn"] = next(
        n for n, record in x.network.get_all_records().items() if record["bridge"] == "xenapi"
    )
    refs["internal"] = x.network.create(network_record(name_label="internal", bridge="genuine0"))
    refs["empty"] = x.network.create(network_record(name_label="empty"))
    refs["vlan_network"] = x.network.create(network_record(name_label="vlan 77"))
    refs["vlan"] = x.VLAN.create(refs["eth1"], "77", refs["vlan_network"])
    refs["vlan_pif"] = x.VLAN.get_untagged_PIF(refs["vlan"])
    refs["vm"] = x.VM.create(vm_record("genuine running"))
    refs["halted"] = x.VM.create(vm_record("genuine halted"))
    refs["vif"] = x.VIF.create(vif_record(made))
    refs["trunk_vif"] = x.VIF.create(vif_record(made, device="3", network=refs["empty"], trunks=["5"]))
    refs["spare_vif"] = x.VIF.create(vif_record(made, device="0", VM=refs["halted"]))
    x.VM.start(refs["vm"], False, False)
    return made


def test_a_vm_with_two_vifs_is_followed_through_event_from(session: Any, world: World) -> None:
    x = session.xenapi
    token = x.event_from(["*"], "", 0.0)["token"]
    network = x.network.create(network_record(name_label="followed"))
    vlan_network = x.network.create(network_record(name_label="followed vlan"))
    vlan = x.VLAN.create(world["eth1"], "99", vlan_network)
    vm = x.VM.create(vm_record("followed"))
    first = x.VIF.create(vif_record(world, VM=vm, network=network))
    second = x.VIF.create(vif_record(world, VM=vm, network=vlan_network, device="1"))
    x.VM.start(vm, False, False)
    seen: dict[str, list[str]] = {}
    snapshots: dict[str, dict[str, Any]] = {}
    while snapshots.get(vm, {}).get("power_state") != "Running":
        batch = x.event_from(["network", "vlan", "vm", "vif"], token, 10.0)
        assert batch["events"], "the changes must arrive without waiting"
        token = batch["token"]
        for event in batch["events"]:
            seen.setdefault(event["ref"], []).append(event["operation"])
            snapshots[event["ref"]] = event["snapshot"]
    assert [seen[ref][0] for ref in (network, vlan_network, vlan, vm, first, second)] == ["add"] * 6
    assert snapshots[first]["currently_attached"]
    assert snapshots[second]["currently_attached"]
    assert set(snapshots[vm]["VIFs"]) == {first, second}
    x.VM.hard_shutdown(vm)
    gone = x.event_from(["vm"], token, 10.0)["events"]
    assert [event["snapshot"]["power_state"] for event in gone if event["ref"] == vm] == ["Halted"]
    x.VM.destroy(vm)
    x.VLAN.destroy(vlan)


def test_background_calls_become_tasks(session: Any) -> None:
    x = session.xenapi
    task = x.Async.network.create(network_record(name_label="made in the background"))
    while x.task.get_status(task) == "pending":
        x.event_from([f"task/{task}"], "", 1.0)
    assert x.task.get_status(task) == "success"
    result = x.task.get_result(task)
    assert result.startswith("<value>OpaqueRef:")
    assert result.endswith("</value>")
    ref = result.removeprefix("<value>").removesuffix("</value>")
    assert x.network.get_name_label(ref) == "made in the background"
    assert x.task.get_progress(task) == 1.0
    x.network.destroy(ref)
    x.task.destroy(task)


Call = Callable[[Any, World], Any]
Params = Callable[[World], list[str]]


def given(*params: str) -> Params:
    return lambda _: list(params)


def refs(*names: str) -> Params:
    return lambda world: [world.refs.get(name, name) for name in names]


WRONG: list[tuple[str, Call, str, Params]] = [
    ("unknown uuid", lambda x, w: x.network.get_by_uuid("nope"), "UUID_INVALID", given("network", "nope")),
    ("unknown ref", lambda x, w: x.PIF.get_record(BOGUS), "HANDLE_INVALID", given("PIF", BOGUS)),
    (
        "null ref",
        lambda x, w: x.VM.get_record("OpaqueRef:NULL"),
        "HANDLE_INVALID",
        given("VM", "OpaqueRef:NULL"),
    ),
    ("unknown method", lambda x, w: x.network.fly(), "MESSAGE_METHOD_UNKNOWN", given("network.fly")),
    (
        "too few parameters",
        lambda x, w: x.VLAN.create(w["eth1"], "5"),
        "MESSAGE_PARAMETER_COUNT_MISMATCH",
        given("VLAN.create", "3", "2"),
    ),
    (
        "too many parameters",
        lambda x, w: x.network.get_all("a"),
        "MESSAGE_PARAMETER_COUNT_MISMATCH",
        given("network.get_all", "0", "1"),
    ),
    ("removed message", lambda x, w: x.VIF.get_metrics(w["vif"]), "MESSAGE_REMOVED", given()),
    (
        "key in the map already",
        lambda x, w: (
            x.network.add_to_other_config(w["empty"], "k", "1"),
            x.network.add_to_other_config(w["empty"], "k", "2"),
        ),
        "MAP_DUPLICATE_KEY",
        refs("network", "other_config", "empty", "k"),
    ),
    (
        "reserved bridge name",
        lambda x, w: x.network.create(network_record(bridge="xenbr9")),
        "INVALID_VALUE",
        given("bridge", "xenbr9"),
    ),
    (
        "bridge name of 16 characters",
        lambda x, w: x.network.create(network_record(bridge="a" * 16)),
        "INVALID_VALUE",
        given("bridge", "a" * 16),
    ),
    (
        "bridge name in use",
        lambda x, w: x.network.create(network_record(bridge="genuine0")),
        "BRIDGE_NAME_EXISTS",
        given("genuine0"),
    ),
    (
        "network with attached VIF",
        lambda x, w: x.network.destroy(w["internal"]),
        "NETWORK_CONTAINS_VIF",
        refs("vif"),
    ),
    (
        "network with PIF",
        lambda x, w: x.network.destroy(w["eth1_network"]),
        "NETWORK_CONTAINS_PIF",
        refs("eth1"),
    ),
    (
        "system network",
        lambda x, w: x.network.destroy(w["himn"]),
        "CANNOT_DESTROY_SYSTEM_NETWORK",
        refs("himn"),
    ),
    (
        "default locking mode while VIFs are active",
        lambda x, w: x.network.set_default_locking_mode(w["internal"], "disabled"),
        "VIF_IN_USE",
        refs("internal", "vif"),
    ),
    (
        "conflicting purposes",
        lambda x, w: (
            x.network.add_purpose(w["empty"], "nbd"),
            x.network.add_purpose(w["internal"], "insecure_nbd"),
        ),
        "NETWORK_INCOMPATIBLE_PURPOSES",
        given("insecure_nbd", "nbd"),
    ),
    ("VLAN tag -1", lambda x, w: x.VLAN.create(w["eth1"], "-1", w["spare"]), "VLAN_TAG_INVALID", given("-1")),
    (
        "VLAN tag 4095",
        lambda x, w: x.VLAN.create(w["eth1"], "4095", w["spare"]),
        "VLAN_TAG_INVALID",
        given("4095"),
    ),
    (
        "VLAN on a VLAN",
        lambda x, w: x.VLAN.create(w["vlan_pif"], "5", w["spare"]),
        "PIF_IS_VLAN",
        refs("vlan_pif"),
    ),
    (
        "VLAN tag twice",
        lambda x, w: x.VLAN.create(w["eth1"], "77", w["spare"]),
        "PIF_VLAN_EXISTS",
        given("eth1"),
    ),
    (
        "network connected already",
        lambda x, w: x.VLAN.create(w["eth1"], "9999", w["vlan_network"]),
        "NETWORK_ALREADY_CONNECTED",
        refs("host", "vlan_pif"),
    ),
    (
        "VLAN on a network with a trunk",
        lambda x, w: x.VLAN.create(w["eth1"], "5", w["empty"]),
        "NETWORK_INCOMPATIBLE_WITH_TRUNKS",
        refs("empty"),
    ),
    (
        "trunks on a VLAN network",
        lambda x, w: x.VIF.create(vif_record(w, device="8", network=w["vlan_network"], trunks=["5"])),
        "NETWORK_INCOMPATIBLE_WITH_TRUNKS",
        refs("vlan_network"),
    ),
    (
        "management PIF unplugged",
        lambda x, w: x.PIF.unplug(w["eth0"]),
        "PIF_IS_MANAGEMENT_INTERFACE",
        refs("eth0"),
    ),
    (
        "management PIF forgotten",
        lambda x, w: x.PIF.forget(w["eth0"]),
        "PIF_IS_MANAGEMENT_INTERFACE",
        refs("eth0"),
    ),
    ("PIF with VLANs forgotten", lambda x, w: x.PIF.forget(w["eth1"]), "PIF_VLAN_STILL_EXISTS", refs("eth1")),
    ("physical PIF destroyed", lambda x, w: x.PIF.destroy(w["eth1"]), "PIF_IS_PHYSICAL", given()),
    (
        "PIF introduced twice",
        lambda x, w: x.PIF.introduce(w["host"], "00:16:3e:00:00:01", "eth1"),
        "DUPLICATE_PIF_DEVICE_NAME",
        given("eth1"),
    ),
    (
        "PIF with a bad MAC",
        lambda x, w: x.PIF.introduce(w["host"], "00-16-3e-aa-bb-01", "eth7"),
        "MAC_INVALID",
        given("00-16-3e-aa-bb-01"),
    ),
    (
        "PIF of no NIC",
        lambda x, w: x.PIF.introduce(w["host"], "00:16:3E:00:00:01", "eth7"),
        "COULD_NOT_FIND_NETWORK_INTERFACE_WITH_SPECIFIED_DEVICE_NAME_AND_MAC_ADDRESS",
        given("eth7", "00:16:3e:00:00:01"),
    ),
    (
        "bad address",
        lambda x, w: x.PIF.reconfigure_ip(w["eth1"], "Static", "10.0.0", "255.255.255.0", "", ""),
        "INVALID_IP_ADDRESS_SPECIFIED",
        given("IP"),
    ),
    (
        "bad netmask",
        lambda x, w: x.PIF.reconfigure_ip(w["eth1"], "Static", "10.0.0.1", "24", "", ""),
        "INVALID_IP_ADDRESS_SPECIFIED",
        given("netmask"),
    ),
    (
        "IPv6 address without a prefix length",
        lambda x, w: x.PIF.reconfigure_ipv6(w["eth1"], "Static", "fd00::1", "", ""),
        "INVALID_CIDR_ADDRESS_SPECIFIED",
        given("IPv6"),
    ),
    (
        "VIF device is no number",
        lambda x, w: x.VIF.create(vif_record(w, device="eth0")),
        "INVALID_DEVICE",
        given("eth0"),
    ),
    ("VIF device -1", lambda x, w: x.VIF.create(vif_record(w, device="-1")), "INVALID_DEVICE", given("-1")),
    (
        "VIF device twice",
        lambda x, w: x.VIF.create(vif_record(w, device="00")),
        "DEVICE_ALREADY_EXISTS",
        given("00"),
    ),
    (
        "VIF with a bad MAC",
        lambda x, w: x.VIF.create(vif_record(w, device="9", MAC="0:16:3e:aa:bb:01")),
        "MAC_INVALID",
        given("0:16:3e:aa:bb:01"),
    ),
    (
        "attached VIF destroyed",
        lambda x, w: x.VIF.destroy(w["vif"]),
        "OPERATION_NOT_ALLOWED",
        given("VIF currently attached to a running VM"),
    ),
    ("attached VIF plugged", lambda x, w: x.VIF.plug(w["vif"]), "DEVICE_ALREADY_ATTACHED", refs("vif")),
    (
        "VIF of a halted VM plugged",
        lambda x, w: x.VIF.plug(w["spare_vif"]),
        "VM_BAD_POWER_STATE",
        refs("halted", "running", "halted_state"),
    ),
    (
        "bad IPv4 address allowed",
        lambda x, w: x.VIF.set_ipv4_allowed(w["vif"], ["10.0.0.256"]),
        "INVALID_IP_ADDRESS_SPECIFIED",
        given("ipv4_allowed"),
    ),
    (
        "bad IPv6 address allowed",
        lambda x, w: x.VIF.add_ipv6_allowed(w["vif"], "10.0.0.1"),
        "INVALID_IP_ADDRESS_SPECIFIED",
        given("ipv6_allowed"),
    ),
    ("trunk tag 5000", lambda x, w: x.VIF.add_trunks(w["vif"], "5000"), "VLAN_TAG_INVALID", given("5000")),
    (
        "running VM started",
        lambda x, w: x.VM.start(w["vm"], False, False),
        "VM_BAD_POWER_STATE",
        refs("vm", "halted_state", "running"),
    ),
    (
        "halted VM shut down",
        lambda x, w: x.VM.hard_shutdown(w["halted"]),
        "VM_BAD_POWER_STATE",
        None,  # type: ignore[list-item]  # checked below: the expected states are the reference's list
    ),
    (
        "host name with an underscore",
        lambda x, w: x.host.set_hostname_live(w["host"], "a_b"),
        "HOST_NAME_INVALID",
        given("hostname contains invalid characters"),
    ),
    (
        "token of event.from",
        lambda x, w: x.event_from(["*"], "soon", 0.0),
        "EVENT_FROM_TOKEN_PARSE_FAILURE",
        given("soon"),
    ),
    ("bad filter", lambda x, w: x.network.get_all_records_where("colour"), "INVALID_VALUE", None),  # type: ignore[list-item]
    ("wrong enum", lambda x, w: x.VIF.set_locking_mode(w["vif"], "ajar"), "INTERNAL_ERROR", None),  # type: ignore[list-item]
    (
        "event.next without registration",
        lambda x, w: x.event.next(),
        "SESSION_NOT_REGISTERED",
        None,  # type: ignore[list-item]
    ),
]


@pytest.mark.parametrize(
    ("call", "code", "params"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_a_wrong_call_gets_the_reference_s_refusal(
    session: Any, world: World, call: Call, code: str, params: Params | None
) -> None:
    if "spare" not in world.refs:
        world.refs["spare"] = session.xenapi.network.create(network_record(name_label="spare"))
        world.refs["halted_state"] = "halted"
    before = session.xenapi.network.get_all_records()
    with pytest.raises(XenAPI.Failure) as refused:
        call(session.xenapi, world)
    assert refused.value.details[0] == code
    if params is not None:
        assert refused.value.details[1:] == params(world)
    assert set(session.xenapi.network.get_all_records()) == set(before), "a failed call changes nothing"


def test_a_session_that_does_not_exist_is_refused(lab: RunningLab) -> None:
    nobody = f"OpaqueRef:{uuid.uuid4()}"
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{lab.lab.host('host1').http_port}") as proxy:
        assert proxy.network.get_all(nobody) == {
            "Status": "Failure",
            "ErrorDescription": ["SESSION_INVALID", nobody],
        }


def test_a_wrong_password_is_refused_after_a_while(lab: RunningLab) -> None:
    session = XenAPI.Session(f"http://127.0.0.1:{lab.lab.host('host1').http_port}")
    with pytest.raises(XenAPI.Failure) as refused:
        session.xenapi.login_with_password("root", "not the password")
    session("close")()
    assert refused.value.details[:2] == ["SESSION_AUTHENTICATION_FAILED", "root"]
