from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from poolnet.hostnet.facts import AddressFacts, GuestFacts, HostFacts
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_guest_metrics import VMGuestMetrics
from poolnet.model.enums import IpConfigurationMode
from poolnet.model.types import NULL
from poolnet.rules.facts import ended_guests, record_facts
from tests.unit.rules.world import LOCAL, NOW, World, facts_with

LATER = NOW + timedelta(seconds=5)


def record(w: World, facts: HostFacts) -> None:
    record_facts(w.txn, LOCAL, facts, LATER, w.ctx.new_uuid)


def test_what_is_known_already_changes_nothing() -> None:
    w = World.new()
    w.ctx = w.ctx.on(w.txn.nested())
    record(w, facts_with())
    assert not w.txn.changes()


def test_a_lease_becomes_the_pifs_and_the_hosts_address() -> None:
    w = World.new()
    pif = w.nic_pif("eth0").ref
    w.call(
        "PIF.reconfigure_ip",
        self=pif,
        mode=IpConfigurationMode.DHCP,
        IP="",
        netmask="",
        gateway="",
        DNS="",
    )
    lease = AddressFacts(
        bridge="xenbr0", ipv4=("198.51.100.7/25",), gateway="198.51.100.1", dns_servers=("198.51.100.2",)
    )
    record(w, replace(facts_with(), addresses=(lease,)))
    row = w.txn.get(PIF, pif)
    assert (row.IP, row.netmask) == ("198.51.100.7", "255.255.255.128")
    assert (row.gateway, row.DNS) == ("198.51.100.1", "198.51.100.2")
    assert w.txn.get(Host, LOCAL).address == "198.51.100.7"
    record(w, replace(facts_with(), addresses=(AddressFacts(bridge="xenbr0"),)))
    row = w.txn.get(PIF, pif)
    assert (row.IP, row.netmask, row.gateway) == ("", "", "")
    assert w.txn.get(Host, LOCAL).address == ""


def test_static_addresses_are_not_read_back() -> None:
    w = World.new()
    seen = AddressFacts(bridge="xenbr0", ipv4=("203.0.113.1/24",))
    record(w, replace(facts_with(), addresses=(seen,)))
    assert w.nic_pif("eth0").IP == "192.0.2.10"


def test_the_addresses_of_guests_are_listed_by_device() -> None:
    w = World.new()
    vm = w.vm()
    w.start(vm)
    row = w.txn.get(VM, vm)
    addresses = ((1, "10.0.0.2"), (0, "10.0.0.1"), (0, "fe80::1"), (0, "10.0.0.9"))
    guest = GuestFacts(vm_uuid=row.uuid, domid=row.domid, state="running", addresses=addresses)
    record(w, facts_with(guests=(guest,)))
    assert w.txn.get(VMGuestMetrics, row.guest_metrics).networks == {
        "0/ip": "10.0.0.1",
        "0/ipv4/0": "10.0.0.1",
        "0/ipv4/1": "10.0.0.9",
        "0/ipv6/0": "fe80::1",
        "1/ip": "10.0.0.2",
        "1/ipv4/0": "10.0.0.2",
    }
    record(w, facts_with(guests=(replace(guest, domid=99, addresses=()),)))
    assert w.txn.get(VMGuestMetrics, row.guest_metrics).networks


def test_only_a_guest_that_is_seen_stopped_has_ended() -> None:
    w = World.new()
    vm = w.vm()
    w.start(vm)
    row = w.txn.get(VM, vm)
    guest = GuestFacts(vm_uuid=row.uuid, domid=row.domid, state="stopped")
    assert ended_guests(w.txn, LOCAL, facts_with(guests=(guest,))) == ((vm, row.domid),)
    assert ended_guests(w.txn, LOCAL, facts_with(guests=(replace(guest, domid=7),))) == ()
    assert ended_guests(w.txn, LOCAL, facts_with()) == ()
    w.call("VM.hard_shutdown", vm=vm)
    assert ended_guests(w.txn, LOCAL, facts_with(guests=(guest,))) == ()


def test_a_new_name_reaches_host_and_control_domain() -> None:
    w = World.new()
    w.txn.update(Host, LOCAL, name_label="localhost")
    record(w, replace(facts_with(), hostname="host9"))
    row = w.txn.get(Host, LOCAL)
    assert (row.hostname, row.name_label) == ("host9", "host9")
    assert w.txn.get(VM, row.control_domain).name_label == "Control domain on host: host9"


def test_free_memory_is_recorded_and_unknown_hosts_ignored() -> None:
    w = World.new()
    record(w, replace(facts_with(), memory_free_bytes=1))
    metrics = w.txn.get(HostMetrics, w.txn.get(Host, LOCAL).metrics)
    assert (metrics.memory_free, metrics.last_updated) == (1, LATER)
    record_facts(w.txn, NULL, facts_with(), LATER, w.ctx.new_uuid)


def test_metrics_that_somebody_removed_are_made_anew_with_all_there_is_to_say() -> None:
    w = World.new()
    pif = w.nic_pif("eth1")
    w.txn.destroy(PIFMetrics, pif.metrics)
    named = replace(facts_with().nics[1], vendor_name="Intel Corporation", device_name="I210")
    nics = tuple(named if nic.name == "eth1" else nic for nic in facts_with().nics)
    record(w, replace(facts_with(), nics=nics))
    metrics = w.txn.get(PIFMetrics, w.nic_pif("eth1").metrics)
    assert (metrics.carrier, metrics.speed, metrics.duplex) == (True, 1000, True)
    assert (metrics.vendor_id, metrics.device_id) == ("8086", "1533")
    assert (metrics.vendor_name, metrics.device_name) == ("Intel Corporation", "I210")
    assert (metrics.pci_bus_path, metrics.last_updated) == ("0000:00:01.0", LATER)
    assert (metrics.io_read_kbs, metrics.io_write_kbs) == (0.0, 0.0)


def test_another_backend_and_its_programs_are_known_of_the_host() -> None:
    w = World.new()
    record(w, replace(facts_with(), software=(("linux", "6.1"), ("openvswitch", "3.1.0"))))
    record(w, replace(facts_with(), backend="bridge", software=(("linux", "6.1"), ("nftables", "1.0.6"))))
    version = w.txn.get(Host, LOCAL).software_version
    assert (version["network_backend"], version["nftables"]) == ("bridge", "1.0.6")
    assert "openvswitch" not in version
    assert version["product_brand"] == "poolnet"
