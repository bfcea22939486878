"""Which test shows, with packets, that an operation works on a backend? Every operation on one host's network, each backend;
and those of high availability, which are the pool's.

`test_table` holds that each cell names tests that are there, and that run where it says. The page
`docs/developer/operations.md` is this table; write it anew with `python -m tests.operations.table`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/developer/operations.md"


class Backend(Enum):
    """A column."""

    NETDEV = "Open vSwitch in user space"
    KERNEL = "Open vSwitch in the kernel"
    LINUX = "Linux bridge"


class Where(Enum):
    """On which kernel a test runs: this machine's, the other one's (User Mode Linux), or Debian's under emulation."""

    HERE = "here"
    THERE = "UML"
    DEBIAN = "Debian"


@dataclass(frozen=True)
class Cell:
    """Tests by their pytest ids, below `tests/`, and where they run."""

    where: Where
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """An operation."""

    operation: str
    cells: dict[Backend, Cell]
    note: str = ""


def everywhere(operation: str, *tests: str, note: str = "") -> Row:
    """The same tests for all backends: those that this machine's kernel does not have on the other one."""
    cells = {
        Backend.NETDEV: Cell(Where.HERE, tests),
        Backend.KERNEL: Cell(Where.THERE, tests),
        Backend.LINUX: Cell(Where.THERE, tests),
    }
    return Row(operation, cells, note)


def by_backend(operation: str, netdev: Cell, kernel: Cell, linux: Cell, note: str = "") -> Row:
    """Tests of its own for each backend."""
    return Row(operation, {Backend.NETDEV: netdev, Backend.KERNEL: kernel, Backend.LINUX: linux}, note)


@dataclass(frozen=True)
class PoolRow:
    """An operation that is the pool's, whatever its hosts' backends: the tests that show it, which run here."""

    operation: str
    tests: tuple[str, ...]


IN_USE = "lab/test_networks_in_use.py::test_"
DHCP, DHCP6 = "lab/test_dhcp.py::test_", "lab/test_dhcp6.py::test_"
BONDS = "lab/test_bonds.py::test_"
TUNNELS = "lab/test_tunnels.py::test_guests_of_two_hosts_meet_in_a_tunnel"
MANAGEMENT = "lab/test_management.py::test_"
INTERFACES = "lab/test_interfaces.py::test_"
NBD = "lab/test_nbd_port.py::test_"
CONSOLE = "lab/test_console.py::test_"
STORAGE = "lab/test_storage.py::test_"
NFS = "kernel/nfs_storage.py::test_"
SWITCH = "lab/test_switch_backend_commands.py::test_"
FAILOVER = f"{BONDS}a_pulled_cable_is_survived_and_restoring_it_disturbs_nobody"
MOVES = f"{BONDS}management_vlans_and_vms_move_onto_a_bond_and_back_under_traffic"
NBD_HERE = Cell(
    Where.HERE,
    (
        f"{NBD}the_port_is_open_exactly_where_it_should_be[openvswitch]",
        f"{NBD}the_purpose_of_a_network_opens_the_port_on_its_bridge",
    ),
)

NFS_AGAIN = (
    f"{NFS}storage_is_plugged_again_after_the_address_has_changed",
    f"{NFS}an_iso_library_is_mounted_as_it_is",
)

ROWS = (
    everywhere("PIF.scan: a NIC that is put in", f"{IN_USE}a_nic_that_is_put_in_is_found_by_a_scan"),
    everywhere("PIF.introduce, PIF.forget", f"{IN_USE}a_nic_is_unplugged_forgotten_and_introduced_again"),
    everywhere("PIF.plug, PIF.unplug", f"{IN_USE}a_nic_is_unplugged_forgotten_and_introduced_again"),
    everywhere("a cable is pulled: carrier, speed, events", f"{IN_USE}a_pulled_cable_is_an_event"),
    everywhere(
        "PIF.reconfigure_ip DHCP: a real server",
        f"{DHCP}a_lease_shows_in_xe_with_gateway_and_dns_where_they_are_wanted",
    ),
    everywhere("PIF.reconfigure_ip Static, None", f"{DHCP}static_and_none_end_the_client"),
    everywhere("PIF.reconfigure_ipv6 DHCP: a real server", f"{DHCP6}a_leased_address_works_and_shows"),
    everywhere(
        "PIF.reconfigure_ipv6 Autoconf, Static: a real router",
        f"{DHCP6}a_router_gives_addresses_and_static_ends_them",
    ),
    everywhere("PIF.reconfigure_ipv6 None, beside IPv4", f"{DHCP6}one_client_asks_for_both_versions"),
    everywhere(
        "PIF.set_primary_address_type: management by IPv6 alone",
        f"{MANAGEMENT}management_over_ipv6_alone",
    ),
    everywhere(
        "a NIC that the kernel names anew",
        f"{INTERFACES}a_nic_that_the_kernel_names_anew_stays_on_its_network",
    ),
    everywhere("ethtool keys and properties of a PIF", f"{INTERFACES}options_of_a_nic_come_stay_and_go"),
    everywhere(
        "static routes of a network", f"{INTERFACES}static_routes_of_a_network_come_and_go_where_they_can"
    ),
    *(
        everywhere(f"Bond.create {mode}: failover under a train of pings", f"{FAILOVER}[{mode}]")
        for mode in ("balance-slb", "active-backup", "lacp")
    ),
    everywhere(
        "LACP negotiated with the lab's switch; Bond.set_mode, Bond.set_property",
        f"{BONDS}mode_and_properties_change_while_traffic_flows",
    ),
    *(
        everywhere(f"Bond.create, Bond.destroy {mode}: management, VLANs and VMs move", f"{MOVES}[{mode}]")
        for mode in ("balance-slb", "active-backup", "lacp")
    ),
    everywhere("Bond.create with a MAC address", f"{BONDS}a_given_mac_is_the_bonds"),
    everywhere("a bond of four", f"{BONDS}a_bond_of_four_carries_management_up_to_its_last_cable"),
    everywhere("a bond of one", f"{BONDS}a_bond_of_one_carries_traffic"),
    everywhere(
        "VLAN.create, VLAN.destroy on a NIC: tagged frames on the wire",
        f"{IN_USE}vlans_of_one_uplink_do_not_see_each_other",
    ),
    everywhere("a VLAN on a bond", f"{MOVES}[active-backup]"),
    *(
        everywhere(f"tunnel.create, tunnel.destroy {protocol}", f"{TUNNELS}[{protocol}]")
        for protocol in ("gre", "vxlan")
    ),
    everywhere(
        "network.create: internal", f"{IN_USE}a_vif_is_unplugged_plugged_and_moved_while_it_is_pinged"
    ),
    everywhere("a network with a NIC", f"{IN_USE}a_nic_that_is_put_in_is_found_by_a_scan"),
    everywhere("network.set_MTU along NIC, bridge and VIF", f"{IN_USE}a_network_of_large_frames"),
    everywhere(
        "MTU of a VLAN between two hosts",
        f"{INTERFACES}large_frames_pass_from_guest_to_guest_through_vlan_and_nic",
    ),
    everywhere(
        "pool.set_igmp_snooping_enabled: a multicast to its members alone",
        f"{IN_USE}with_igmp_snooping_a_multicast_goes_to_its_members_alone",
    ),
    everywhere("network.set_default_locking_mode", f"{IN_USE}a_network_may_disable_its_vifs_by_default"),
    everywhere("VIF.set_locking_mode", f"{IN_USE}a_disabled_vif_is_deaf_and_dumb"),
    by_backend(
        "network.add_purpose, network.remove_purpose: the NBD port",
        NBD_HERE,
        Cell(Where.DEBIAN, (f"{NBD}the_port_is_open_exactly_where_it_should_be[openvswitch]",)),
        Cell(Where.HERE, (f"{NBD}the_port_is_open_exactly_where_it_should_be[linuxbridge]",)),
        "The filter is at the host's own input, above any switch, and needs nftables' family `inet`, which "
        "User Mode Linux does not have.",
    ),
    everywhere(
        "host.management_reconfigure to a NIC, a VLAN and a bond",
        f"{MANAGEMENT}management_moves_to_a_nic_a_vlan_and_a_bond_and_back",
    ),
    everywhere("host.management_disable, and enabled again", f"{MANAGEMENT}management_off_and_on_again"),
    everywhere(
        "xe host-emergency-management-reconfigure (host.local_management_reconfigure) on the console",
        f"{CONSOLE}management_comes_back_by_the_name_of_its_bridge",
    ),
    everywhere(
        "poolnet host-reset-network on the console",
        f"{CONSOLE}the_last_good_network_is_restored_from_whatever_is_there",
    ),
    everywhere(
        "host.set_hostname_live: kernel, disk and DHCP server",
        "lab/test_console.py::test_a_new_name_is_known_to_database_kernel_disk_and_dhcp_server",
    ),
    by_backend(
        "SR.create, PBD.unplug, SR.destroy nfs: a real server",
        Cell(Where.THERE, (f"{NFS}an_sr_is_made_used_and_removed_with_open_vswitch_in_user_space",)),
        Cell(Where.THERE, (f"{NFS}an_sr_is_made_on_the_server_used_and_removed",)),
        Cell(Where.THERE, (f"{NFS}an_sr_is_made_on_the_server_used_and_removed",)),
        "The kernel of the machine that runs the tests may have no NFS client.",
    ),
    by_backend(
        "PBD.plug nfs again after PIF.reconfigure_ip; SR iso on the server",
        Cell(Where.THERE, (f"{NFS}an_sr_is_made_used_and_removed_with_open_vswitch_in_user_space",)),
        Cell(Where.THERE, NFS_AGAIN),
        Cell(Where.THERE, NFS_AGAIN),
    ),
    everywhere(
        "SR.create, PBD.plug, PBD.unplug, SR.destroy file",
        f"{STORAGE}an_sr_in_a_directory_from_its_creation_to_its_end",
        note="In a directory of the host: no frame passes.",
    ),
    by_backend(
        "change of backend, with VMs and a tunnel to another host",
        Cell(Where.HERE, (f"{SWITCH}both_commands_change_the_backend_with_all_that_is_in_use",)),
        Cell(Where.THERE, (f"{SWITCH}both_commands_change_the_backend_with_all_that_is_in_use",)),
        Cell(Where.HERE, (f"{SWITCH}after_a_change_the_host_works_on_and_boots_with_it",)),
    ),
    everywhere(
        "VIF.set_trunks: a trunk and a guest of the VLAN on the same host",
        f"{IN_USE}a_trunk_and_a_guest_of_the_vlan_on_the_same_host_hear_each_other",
    ),
)

HA = "lab/test_ha.py::test_"
FENCE = "lab/test_hostd_fence.py::test_guests_stop_when_the_lease_ends_and_go_on_while_it_is_renewed"
CUT_OFF = f"{HA}a_host_that_is_cut_off_is_silent_before_its_vms_run_elsewhere_and_comes_back_without_them"
ON = f"{HA}it_is_on_with_leases_and_refuses_what_would_cut_hosts_off"
HELD_BACK = f"{HA}restarts_are_held_back_as_long_as_somebody_wants"

POOL_ROWS = (
    PoolRow(
        "pool.enable_ha, pool.set_ha_host_failures_to_tolerate, and what is refused while it is on", (ON,)
    ),
    PoolRow("pool.disable_ha", (f"{HA}turned_off_it_disarms_the_hosts_and_disturbs_no_vm",)),
    PoolRow(
        "a host that loses its lease silences its VMs, then ends them, on each backend",
        (f"{FENCE}[openvswitch]", f"{FENCE}[linuxbridge]"),
    ),
    PoolRow(
        "the same with virtual machines of libvirt, while that hangs",
        (
            "lab/test_libvirt.py::test_a_host_without_a_lease_ends_its_machines_with_libvirt_and_daemon_hanging",
        ),
    ),
    PoolRow(
        "VM.set_ha_restart_priority, VM.set_order, VM.set_start_delay: a host is cut off",
        (CUT_OFF,),
    ),
    PoolRow(
        "programs are killed or hang; the coordinator dies while it restarts VMs",
        (
            f"{HA}what_is_killed_is_restarted_in_time_and_what_hangs_is_silenced_without_it",
            f"{HA}a_coordinator_that_dies_while_it_restarts_vms_starts_none_twice",
        ),
    ),
    PoolRow(
        "all hosts die, and boot",
        (f"{HA}a_pool_that_has_died_as_a_whole_starts_its_vms_again_when_it_boots",),
    ),
    PoolRow("pool.ha_compute_max_host_failures_to_tolerate", (ON,)),
    PoolRow("pool.ha_compute_hypothetical_max_host_failures_to_tolerate", (HELD_BACK,)),
    PoolRow("pool.ha_compute_vm_failover_plan", (CUT_OFF, HELD_BACK)),
    PoolRow("pool.ha_prevent_restarts_for", (HELD_BACK,)),
    PoolRow(
        "host.emergency_ha_disable on the console of a host without a majority",
        (f"{HA}a_survivor_without_a_majority_fences_itself_and_can_be_disarmed",),
    ),
)

_POOL_HEAD = """
## High availability

Who has a lease, and where VMs are restarted, is for the pool's database and the coordinator: the same on each backend. What a host
does without a lease is asked of the kernel, whatever its switch is. All of it is shown here, by frames at the hosts' ports where
it is about VMs that must be silent.

| operation | tests |
|---|---|"""

_HEAD = """# Operations and backends

Each operation on one host's network, and the tests that show it with packets on each backend. *Here* is the kernel of the
machine that runs the tests; *UML* is the other kernel, User Mode Linux, which has what that one lacks: 802.1Q, bonding,
GRE, and Open vSwitch's datapath; *Debian* is Debian's own kernel under emulation ([how](tests.md)). `tests/operations/table.py` is the table's source; a test fails when a
cell names a test that is not run there, or when this page is not what the source says.

"""


def render() -> str:
    """The page."""
    return _HEAD + "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    columns = " | ".join(backend.value for backend in Backend)
    yield f"| operation | {columns} |"
    yield "|---|" + "---|" * len(Backend)
    for row in ROWS:
        cells = " | ".join(_cell(row.cells[backend]) for backend in Backend)
        yield f"| {row.operation} | {cells} |"
    for row in ROWS:
        if row.note:
            yield ""
            yield f"*{row.operation}*: {row.note}"
    yield _POOL_HEAD
    for pool_row in POOL_ROWS:
        yield f"| {pool_row.operation} | {_named(pool_row.tests)} |"


def _cell(cell: Cell) -> str:
    return f"{cell.where.value}: {_named(cell.tests)}"


def _named(tests: Iterable[str]) -> str:
    return ", ".join(f"`{test.rpartition('/')[2]}`" for test in tests)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
