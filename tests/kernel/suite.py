"""Which tests of the lab run on another kernel too? For each backend, modules and tests that it must pass there.

They are those that the table of operations needs (`tests/operations`), and what only that kernel has. What is here must
pass on a machine about ten times slower than this one, with one processor.
"""

from __future__ import annotations

_BONDS = "tests/lab/test_bonds.py::test_"
_DHCP = "tests/lab/test_dhcp.py::test_"
_MANAGEMENT = "tests/lab/test_management.py::test_"
_INTERFACES = "tests/lab/test_interfaces.py::test_"
_CONSOLE = "tests/lab/test_console.py::test_"
_STORAGE = "tests/lab/test_storage.py::test_"
_NFS = "tests/kernel/nfs_storage.py::test_"
_TUNNELS = "tests/lab/test_linuxbridge_tunnels.py::test_"  # those of VXLAN run on this machine's kernel

# Modules that share a lab (`lab_to_share`) stand together, those that leave their VMs in it last.
_ALONE = (
    "tests/lab/test_networks_in_use.py",
    # a lab of two hosts
    "tests/lab/test_tunnels.py",
    f"{_INTERFACES}options_of_a_nic_come_stay_and_go",
    f"{_INTERFACES}static_routes_of_a_network_come_and_go_where_they_can",
    f"{_INTERFACES}a_nic_that_the_kernel_names_anew_stays_on_its_network",
    f"{_INTERFACES}large_frames_pass_from_guest_to_guest_through_vlan_and_nic",
)
# a lab of one
_STORAGE_ON_A_SERVER = (
    f"{_NFS}an_sr_is_made_on_the_server_used_and_removed",
    f"{_NFS}storage_is_plugged_again_after_the_address_has_changed",
    f"{_NFS}an_iso_library_is_mounted_as_it_is",
)
_ON_ONE_HOST = (
    f"{_STORAGE}an_sr_in_a_directory_from_its_creation_to_its_end",
    f"{_DHCP}a_lease_shows_in_xe_with_gateway_and_dns_where_they_are_wanted",
    f"{_DHCP}static_and_none_end_the_client",
    "tests/lab/test_dhcp6.py",
    f"{_CONSOLE}the_last_good_network_is_restored_from_whatever_is_there",
    f"{_CONSOLE}management_comes_back_by_the_name_of_its_bridge",
    f"{_CONSOLE}a_new_name_is_known_to_database_kernel_disk_and_dhcp_server",
    f"{_MANAGEMENT}management_moves_to_a_nic_a_vlan_and_a_bond_and_back",
    f"{_MANAGEMENT}management_off_and_on_again",
    f"{_MANAGEMENT}management_over_ipv6_alone",
    f"{_BONDS}a_pulled_cable_is_survived_and_restoring_it_disturbs_nobody",
    f"{_BONDS}mode_and_properties_change_while_traffic_flows",
    f"{_BONDS}a_given_mac_is_the_bonds",
    f"{_BONDS}a_bond_of_one_carries_traffic",
    f"{_BONDS}management_vlans_and_vms_move_onto_a_bond_and_back_under_traffic",
    f"{_BONDS}a_bond_of_four_carries_management_up_to_its_last_cable",
)
OPERATIONS = (*_ALONE, *_STORAGE_ON_A_SERVER, *_ON_ONE_HOST)
DEBIAN = ("tests/lab/test_nbd_port.py::test_the_port_is_open_exactly_where_it_should_be[openvswitch]",)
"""What runs on Debian's own kernel, under emulation: Open vSwitch in the kernel together with nftables' family inet."""

_ADVERSARY = "tests/lab/test_adversary.py::test_"  # all of it: `make kernel-locks`
LOCKS = (
    f"{_ADVERSARY}without_a_lock_all_of_it_arrives",
    f"{_ADVERSARY}a_lock_stops_every_attack_and_nothing_else",
    f"{_ADVERSARY}disabled_is_deaf_and_dumb[openvswitch-network_default]",
)
MODULES = {
    "openvswitch": (
        *LOCKS,
        "tests/kernel/rates_in_the_kernel.py",
        "tests/lab/test_switch_backend_commands.py::test_both_commands_change_the_backend_with_all_that_is_in_use",
        f"{_NFS}an_sr_is_made_used_and_removed_with_open_vswitch_in_user_space",
        *_ALONE,
        *_STORAGE_ON_A_SERVER,
        f"{_NFS}storage_comes_back_with_the_host_and_an_alert_says_if_not",
        *_ON_ONE_HOST,
    ),
    "linuxbridge": (
        f"{_TUNNELS}a_guest_hears_each_far_end_once_and_they_do_not_hear_each_other[gre-4]",
        f"{_TUNNELS}a_guest_hears_each_far_end_once_and_they_do_not_hear_each_other[gre-6]",
        f"{_TUNNELS}both_versions_of_ip_and_another_key_and_protocol[gre]",
        "tests/kernel/linuxbridge_links.py",
        "tests/manual/test_pool.py",  # four hosts: VLANs, bonds, every address
        *OPERATIONS,
    ),
}
