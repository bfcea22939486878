"""Which function decides which message? The dispatcher looks here first; what is not here and not implicit is refused.

Every rule takes the call's context and the message's parameters under their names in the API; constructors take
`record`, with every member of the class's constructor in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from poolnet.rules import (
    bond,
    drift,
    explain_placement,
    external_auth,
    ha,
    host,
    leave,
    member,
    message,
    missing,
    network,
    network_sriov,
    pbd,
    pif,
    pif_config,
    pif_plug,
    pool,
    pool_bond,
    role,
    sr,
    subject,
    task,
    tunnel,
    vif,
    vif_settings,
    vif_traffic,
    vlan,
    vm,
    vm_migrate,
    vm_power,
    vm_settings,
)

Rule = Callable[..., Any]


def _of(cls: str, module: ModuleType, names: str) -> dict[str, Rule]:
    return {f"{cls}.{name}": getattr(module, name) for name in names.split()}


RULES: Final[Mapping[str, Rule]] = {
    **_of(
        "network",
        network,
        "create destroy pool_introduce set_default_locking_mode add_purpose remove_purpose "
        "attach attach_for_vm detach_for_vm",
    ),
    **_of("PIF", pif, "scan introduce db_introduce db_forget forget create_VLAN destroy"),
    **_of("PIF", pif_plug, "plug unplug"),
    **_of(
        "PIF",
        pif_config,
        "reconfigure_ip reconfigure_ipv6 set_primary_address_type set_property set_disallow_unplug",
    ),
    "PIF.pool_introduce": pif.db_introduce,
    **_of("VLAN", vlan, "create destroy pool_introduce"),
    **_of("Bond", bond, "create destroy set_mode set_property"),
    **_of("tunnel", tunnel, "create destroy"),
    **_of("network_sriov", network_sriov, "create destroy get_remaining_capacity"),
    **_of(
        "pool",
        pool,
        "create_VLAN create_VLAN_from_PIF management_reconfigure set_https_only set_igmp_snooping_enabled "
        "disable_ssl_legacy enable_client_certificate_auth disable_client_certificate_auth",
    ),
    **_of(
        "pool",
        ha,
        "ha_failover_plan_exists ha_compute_max_host_failures_to_tolerate "
        "ha_compute_hypothetical_max_host_failures_to_tolerate ha_compute_vm_failover_plan "
        "set_ha_host_failures_to_tolerate",
    ),
    **_of("pool", drift, "set_other_config add_to_other_config remove_from_other_config"),
    **_of("VIF", vif, "create destroy plug unplug unplug_force move"),
    **_of(
        "VIF",
        vif_traffic,
        "set_locking_mode set_ipv4_allowed add_ipv4_allowed remove_ipv4_allowed set_ipv6_allowed "
        "add_ipv6_allowed remove_ipv6_allowed configure_ipv4 configure_ipv6 add_trunks remove_trunks set_trunks "
        "set_qos_algorithm_type set_qos_algorithm_params add_to_qos_algorithm_params "
        "remove_from_qos_algorithm_params",
    ),
    **_of("VIF", vif_settings, "set_other_config add_to_other_config remove_from_other_config"),
    **_of(
        "VM",
        vm,
        "create destroy clone provision get_allowed_VIF_devices get_possible_hosts assert_can_boot_here "
        "assert_agile assert_operation_valid update_allowed_operations compute_memory_overhead",
    ),
    "VM.pool_migrate": vm_migrate.pool_migrate,
    **_of("host", vm_migrate, "get_vms_which_prevent_evacuation assert_can_evacuate"),
    "VM.explain_placement": explain_placement.explain_placement,
    **_of(
        "VM",
        vm_power,
        "start start_on clean_shutdown hard_shutdown shutdown clean_reboot hard_reboot pause unpause suspend "
        "resume resume_on power_state_reset",
    ),
    **_of(
        "VM",
        vm_settings,
        "set_is_a_template set_is_default_template set_ha_always_run set_ha_restart_priority "
        "set_memory_dynamic_max set_memory_dynamic_min set_memory_dynamic_range set_memory_static_max "
        "set_memory_static_min set_memory_static_range set_memory_limits set_memory set_VCPUs_max "
        "set_VCPUs_at_startup set_HVM_shadow_multiplier set_HVM_boot_policy set_domain_type set_NVRAM "
        "add_to_NVRAM remove_from_NVRAM set_bios_strings set_has_vendor_device set_other_config "
        "add_to_other_config remove_from_other_config set_platform add_to_platform remove_from_platform "
        "set_blocked_operations add_to_blocked_operations remove_from_blocked_operations "
        "set_actions_after_crash set_start_delay set_shutdown_delay set_order set_suspend_VDI "
        "set_snapshot_schedule set_appliance",
    ),
    **_of(
        "host",
        host,
        "get_management_interface management_reconfigure management_disable set_hostname_live enable disable "
        "local_management_reconfigure "
        "get_servertime is_in_emergency_mode local_assert_healthy signal_networking_change set_https_only set_ssl_legacy "
        "sync_pif_currently_attached reset_networking",
    ),
    "host.destroy": leave.destroy,
    "pool.create_bond": pool_bond.create_bond,
    "host.explain_missing": missing.explain_missing,
    "host.enable_external_auth": external_auth.enable_on_host,
    "host.disable_external_auth": external_auth.disable_on_host,
    "pool.enable_external_auth": external_auth.enable_in_pool,
    "pool.disable_external_auth": external_auth.disable_in_pool,
    "host.sync_vlans": member.sync_vlans,
    "host.sync_tunnels": member.sync_tunnels,
    **_of(
        "SR",
        sr,
        "create introduce forget destroy scan update get_supported_types set_name_label set_name_description "
        "set_shared set_physical_size set_virtual_allocation set_physical_utilisation",
    ),
    **_of("PBD", pbd, "create destroy plug unplug set_device_config"),
    **_of(
        "task",
        task,
        "create destroy set_status set_progress set_result set_error_info set_other_config "
        "add_to_other_config remove_from_other_config",
    ),
    **_of(
        "message",
        message,
        "create get_all get_all_records get_all_records_where get_since get get_record get_by_uuid destroy "
        "destroy_many destroy_all",
    ),
    **_of(
        "role",
        role,
        "get_permissions get_permissions_name_label get_by_permission get_by_permission_name_label",
    ),
    **_of("subject", subject, "create destroy add_to_roles remove_from_roles get_permissions_name_label"),
}
"""Every message that a rule decides, by its full name."""
