"""What refuses a change of hosts and pools, or says that one cannot answer? Rules, pool and API raise these.

Each gives the failure with the parameters really sent (spec §27); its docstring is what people read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model import failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from poolnet.model.classes.host import Host
    from poolnet.model.classes.network import Network
    from poolnet.model.types import Ref


@failure.error("host")
def cannot_contact_host(host: Ref[Host]) -> failure.Parameters:
    """The host cannot be reached."""
    return (host,)


@failure.error("errors")
def cannot_evacuate_host(reasons: str) -> failure.Parameters:
    """The VMs of the host cannot all go elsewhere."""
    return (reasons,)


@failure.error("msg")
def change_password_rejected(message: str) -> failure.Parameters:
    """The system refused the new password."""
    return (message,)


@failure.error("cluster_host")
def clustering_enabled(cluster_host: str) -> failure.Parameters:
    """The host is a member of a cluster, so this must not change."""
    return (cluster_host,)


@failure.error("reason")
def ha_abort_new_master(reason: str) -> failure.Parameters:
    """The change of coordinator was called off."""
    return (reason,)


@failure.error()
def ha_cannot_change_bond_status_of_mgmt_iface() -> failure.Parameters:
    """The bond of the management interface cannot change while high availability is on."""
    return ()


@failure.error("network")
def ha_constraint_violation_network_not_shared(network: Ref[Network]) -> failure.Parameters:
    """A protected VM would need a network that not every host has."""
    return (network,)


@failure.error()
def ha_failed_to_form_liveset() -> failure.Parameters:
    """A host of the pool did not take its lease in time; high availability is off as before."""
    return ()


@failure.error()
def ha_is_enabled() -> failure.Parameters:
    """This cannot be done while high availability is on."""
    return ()


@failure.error()
def ha_no_plan() -> failure.Parameters:
    """The protected VMs would not all find a place if as many hosts failed as the pool shall bear."""
    return ()


@failure.error()
def ha_not_enabled() -> failure.Parameters:
    """High availability is not on."""
    return ()


@failure.error()
def ha_operation_would_break_failover_plan() -> failure.Parameters:
    """This would leave too little for the failures that the pool must survive."""
    return ()


@failure.error()
def host_broken() -> failure.Parameters:
    """The host cannot serve; it waits to be mended."""
    return ()


@failure.error("host")
def host_cannot_destroy_self(host: Ref[Host]) -> failure.Parameters:
    """A host cannot remove itself from the pool's records."""
    return (host,)


@failure.error("host")
def host_disabled(host: Ref[Host]) -> failure.Parameters:
    """The host is disabled and takes no VMs."""
    return (host,)


@failure.error()
def host_has_no_management_ip() -> failure.Parameters:
    """The management interface has no IP address."""
    return ()


@failure.error("host")
def host_has_resident_vms(host: Ref[Host]) -> failure.Parameters:
    """VMs still run on the host."""
    return (host,)


@failure.error()
def host_in_emergency_mode() -> failure.Parameters:
    """The host is in emergency mode."""
    return ()


@failure.error("host")
def host_is_live(host: Ref[Host]) -> failure.Parameters:
    """The host is alive."""
    return (host,)


@failure.error(
    "Master IP address",
    description="You cannot make regular API calls directly on a supporter. "
    "Please pass API calls via the coordinator host.",
)
def host_is_slave(address: str) -> failure.Parameters:
    """The host is a member: the client must ask the coordinator at this address."""
    return (address,)


@failure.error()
def host_its_own_slave() -> failure.Parameters:
    """The host is set to be a member of a pool whose coordinator it is itself."""
    return ()


@failure.error("ip")
def host_master_cannot_talk_back(address: str) -> failure.Parameters:
    """The coordinator cannot reach this host at its address."""
    return (address,)


@failure.error("reason")
def host_name_invalid(reason: str) -> failure.Parameters:
    """The host name is not valid."""
    return (reason,)


@failure.error()
def host_not_disabled() -> failure.Parameters:
    """The host must be disabled first."""
    return ()


@failure.error()
def host_not_live() -> failure.Parameters:
    """The host is not alive."""
    return ()


@failure.error("host")
def host_offline(host: Ref[Host]) -> failure.Parameters:
    """The host does not answer."""
    return (host,)


@failure.error("host")
def host_pending_mandatory_guidance_not_empty(host: Ref[Host]) -> failure.Parameters:
    """The host must be restarted or mended as its updates say first."""
    return (host,)


@failure.error()
def host_still_booting() -> failure.Parameters:
    """The host is still starting."""
    return ()


@failure.error("host")
def host_unknown_to_master(host: str) -> failure.Parameters:
    """The coordinator does not know this host."""
    return (host,)


@failure.error("host_xapi_version")
def host_xapi_version_higher_than_coordinator(version: str) -> failure.Parameters:
    """The host's version is newer than the coordinator's."""
    return (version,)


@failure.error()
def hosts_not_compatible() -> failure.Parameters:
    """The hosts cannot be in one pool: their products or versions differ."""
    return ()


@failure.error("reason")
def hosts_not_homogeneous(reason: str) -> failure.Parameters:
    """The hosts are not alike."""
    return (reason,)


@failure.undocumented_error
def illegal_in_fips_mode() -> failure.Parameters:
    """Not allowed in FIPS mode."""
    return ()


@failure.error()
def joining_host_cannot_be_master_of_other_hosts() -> failure.Parameters:
    """The joining host still has members of its own."""
    return ()


@failure.error()
def joining_host_cannot_contain_shared_srs() -> failure.Parameters:
    """The joining host still has shared storage."""
    return ()


@failure.error()
def joining_host_cannot_have_running_vms() -> failure.Parameters:
    """The joining host still runs VMs."""
    return ()


@failure.error()
def joining_host_cannot_have_vms_with_current_operations() -> failure.Parameters:
    """The joining host has VMs with operations under way."""
    return ()


@failure.error()
def joining_host_connection_failed() -> failure.Parameters:
    """The joining host could not connect to the coordinator."""
    return ()


@failure.error()
def joining_host_service_failed() -> failure.Parameters:
    """The coordinator refused to serve the joining host."""
    return ()


@failure.error()
def license_host_pool_mismatch() -> failure.Parameters:
    """The licences of host and pool differ."""
    return ()


@failure.error("host")
def no_compatible_cluster_host(host: Ref[Host]) -> failure.Parameters:
    """High availability needs the pool's database on a cluster of servers: run pool-cluster-enable first (three hosts at least)."""
    return (host,)


@failure.error()
def not_in_emergency_mode() -> failure.Parameters:
    """The host is not in emergency mode."""
    return ()


@failure.error()
def not_supported_during_upgrade() -> failure.Parameters:
    """This cannot be done while the pool is being upgraded."""
    return ()


@failure.error()
def pool_joining_external_auth_mismatch() -> failure.Parameters:
    """The joining host and the pool authenticate users differently."""
    return ()


@failure.error()
def pool_joining_host_ca_certificates_conflict(names: Iterable[str]) -> failure.Parameters:
    """The joining host and the pool have different CA certificates of one name."""
    return tuple(names)


@failure.error()
def pool_joining_host_has_bonds() -> failure.Parameters:
    """The joining host must not have bonds."""
    return ()


@failure.error()
def pool_joining_host_has_network_sriovs() -> failure.Parameters:
    """The joining host must not have SR-IOV networks."""
    return ()


@failure.error()
def pool_joining_host_has_non_management_vlans() -> failure.Parameters:
    """The joining host must not have VLANs other than that of its management interface."""
    return ()


@failure.error()
def pool_joining_host_has_tunnels() -> failure.Parameters:
    """The joining host must not have tunnels."""
    return ()


@failure.error("local", "remote")
def pool_joining_host_management_vlan_does_not_match(local: int, remote: int) -> failure.Parameters:
    """The management interfaces of the joining host and the pool are on different VLANs."""
    return str(local), str(remote)


@failure.error()
def pool_joining_host_must_have_only_one_ip_on_clustering_network() -> failure.Parameters:
    """The joining host must have exactly one IP address on the clustering network."""
    return ()


@failure.error("host_api_version", "master_api_version")
def pool_joining_host_must_have_same_api_version(host_version: str, pool_version: str) -> failure.Parameters:
    """The API versions of the joining host and the pool differ."""
    return host_version, pool_version


@failure.error("host_db_schema", "master_db_schema")
def pool_joining_host_must_have_same_db_schema(host_schema: str, pool_schema: str) -> failure.Parameters:
    """The database schemas of the joining host and the pool differ."""
    return host_schema, pool_schema


@failure.error()
def pool_joining_host_tls_verification_mismatch() -> failure.Parameters:
    """The joining host and the pool do not both verify certificates."""
    return ()


@failure.error("ref_in_pool", "ref_on_host")
def pool_joining_host_trusted_certificates_conflict(in_pool: str, on_host: str) -> failure.Parameters:
    """The joining host and the pool trust conflicting certificates."""
    return in_pool, on_host


@failure.error("master_uuid")
def pool_joining_master_certificate_not_in_pool_bundle(coordinator_uuid: str) -> failure.Parameters:
    """The coordinator's own certificate is missing from the pool's bundle."""
    return (coordinator_uuid,)


@failure.error("vlan")
def pool_joining_pool_cannot_enable_clustering_on_vlan_network(vlan: int) -> failure.Parameters:
    """The pool's storage cluster is on a VLAN, which a joining host cannot take part in."""
    return (str(vlan),)


@failure.error("pool_sm_ref", "candidate_sm_ref")
def pool_joining_sm_features_incompatible(pool_sm: str, host_sm: str) -> failure.Parameters:
    """A storage driver of the joining host can do less than the pool's."""
    return pool_sm, host_sm


@failure.error()
def redo_log_is_enabled() -> failure.Parameters:
    """This cannot be done while the redo log is on."""
    return ()


@failure.error()
def slave_requires_management_interface() -> failure.Parameters:
    """A member needs its management interface."""
    return ()


@failure.error("address", "port")
def tls_connection_failed(address: str, port: int) -> failure.Parameters:
    """A TLS connection could not be made."""
    return address, str(port)
