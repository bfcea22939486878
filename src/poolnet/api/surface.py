"""Which messages does poolnet carry out? The dispatcher, the reference documentation and its test ask."""

from __future__ import annotations

from poolnet.api import implicit
from poolnet.model.declare import REMOVED, MessageDecl
from poolnet.rules.catalog import RULES

OWN_MESSAGES = frozenset(
    {
        "auth.get_subject_identifier",
        "auth.get_subject_information_from_identifier",
        "auth.get_group_membership",
        "VM.query_data_source",
        "host.query_data_source",
        "session.login_with_password",
        "session.slave_local_login_with_password",
        "session.logout",
        "session.local_logout",
        "session.change_password",
        "session.get_all_subject_identifiers",
        "session.logout_subject_identifier",
        "event.from",
        "event.register",
        "event.unregister",
        "event.next",
        "event.get_current_id",
        "event.inject",
        "task.cancel",
        "pool.audit_undo",
        "pool.audit_log_append",
        "host.evacuate",
        "host.explain_network_drift",
        "pool.rotate_secret",
        "host.install_server_certificate",
        "host.reset_server_certificate",
        "host.emergency_reset_server_certificate",
        "host.refresh_server_certificate",
        "host.get_server_certificate",
        "pool.enable_tls_verification",
        "host.emergency_disable_tls_verification",
        "host.emergency_reenable_tls_verification",
        "pool.install_ca_certificate",
        "pool.certificate_install",
        "pool.uninstall_ca_certificate",
        "pool.certificate_uninstall",
        "pool.certificate_list",
        "pool.certificate_sync",
        "pool.crl_install",
        "pool.crl_uninstall",
        "pool.crl_list",
        "pool.install_trusted_certificate",
        "pool.uninstall_trusted_certificate",
        "pool.sync_trusted_certificates_from",
        "pool.exchange_trusted_certificates_on_join",
        "pool.exchange_ca_certificates_on_join",
        "pool.exchange_crls_on_join",
        "host.certificate_list",
        "host.crl_list",
        "host.certificate_sync",
        "host.copy_primary_host_certs",
        "VIF.verify_locks",
        "VIF.explain_lock",
        "VIF.count_dropped",
        "session.slave_login",
        "session.slave_local_login",
        "pool.join",
        "pool.join_force",
        "pool.join_fixing",
        "pool.explain_join",
        "pool.explain_admission",
        "pool.exchange_certificates_on_join",
        "pool.eject",
        "pool.recover_slaves",
        "pool.designate_new_master",
        "pool.emergency_transition_to_master",
        "pool.emergency_reset_master",
        "pool.is_slave",
        "pool.sync_database",
        "pool.cluster_enable",
        "pool.cluster_disable",
        "pool.cluster_status",
        "pool.cluster_add",
        "pool.cluster_remove",
        "pool.enable_ha",
        "pool.disable_ha",
        "pool.ha_prevent_restarts_for",
        "host.emergency_ha_disable",
        "host.ha_xapi_healthcheck",
    }
)
"""What the API server carries out itself: `own`, `pool_calls` and `member_calls` have a function for each."""


def implemented(message: MessageDecl) -> bool:
    """Whether a message does something, or answers NOT_IMPLEMENTED. Removed ones answer as the reference does."""
    return (
        message.full_name in OWN_MESSAGES
        or message.full_name in RULES
        or message.kind in implicit.READS
        or message.kind in implicit.WRITES
        or REMOVED in message.flags
    )
