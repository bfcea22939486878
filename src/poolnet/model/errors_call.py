"""What refuses a call, its session, its values or its references? Dispatch and rules raise these.

Each gives the failure with the parameters really sent (spec §27); its docstring is what people read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model import failure

if TYPE_CHECKING:
    from collections.abc import Iterable


@failure.error()
def events_lost() -> failure.Parameters:
    """Events were lost because the client was too slow; register again."""
    return ()


@failure.error("token")
def event_from_token_parse_failure(token: str) -> failure.Parameters:
    """This is not a token that event.from gave."""
    return (token,)


@failure.error("subscription")
def event_subscription_parse_failure(subscription: str) -> failure.Parameters:
    """This is not a subscription to events."""
    return (subscription,)


@failure.error()
def feature_restricted() -> failure.Parameters:
    """The feature is not available."""
    return ()


@failure.error("field")
def field_type_error(field: str) -> failure.Parameters:
    """The value given for the field has the wrong type."""
    return (field,)


@failure.error("class", "handle")
def handle_invalid(cls: str, ref: str) -> failure.Parameters:
    """The object does not exist; it may have been deleted."""
    return cls, ref


@failure.error(
    "message",
    description="The server failed to handle your request, due to an internal error. "
    "The given message may give details useful for debugging the problem.",
)
def internal_error(message: str) -> failure.Parameters:
    """The server met a fault of its own."""
    return (message,)


@failure.error("parameter")
def invalid_cidr_address_specified(parameter: str) -> failure.Parameters:
    """This is not an address with a prefix length."""
    return (parameter,)


@failure.error("parameter")
def invalid_ip_address_specified(parameter: str) -> failure.Parameters:
    """This is not an IP address."""
    return (parameter,)


@failure.error("field", "value", description="The value given is invalid")
def invalid_value(field: str, value: str) -> failure.Parameters:
    """The value is not allowed."""
    return field, value


@failure.error("feature")
def licence_restriction(features: Iterable[str]) -> failure.Parameters:
    """The licence or the settings of the pool do not allow this feature."""
    return tuple(features)


@failure.error("type", "param_name", "uuid", "key")
def map_duplicate_key(cls: str, field: str, ref: str, key: str) -> failure.Parameters:
    """You tried to add a key-value pair to a map, but that key is already there."""
    return cls, field, ref, key


@failure.error()
def message_deprecated() -> failure.Parameters:
    """The message should no longer be used."""
    return ()


@failure.error("method")
def message_method_unknown(method: str) -> failure.Parameters:
    """There is no message of this name."""
    return (method,)


@failure.error("method", "expected", "received")
def message_parameter_count_mismatch(method: str, expected: int, received: int) -> failure.Parameters:
    """The message takes another number of parameters."""
    return method, str(expected), str(received)


@failure.error()
def message_removed() -> failure.Parameters:
    """The message is no longer part of the API."""
    return ()


@failure.error("function")
def not_implemented(function: str) -> failure.Parameters:
    """This function does not exist here."""
    return (function,)


@failure.error()
def object_nolonger_exists() -> failure.Parameters:
    """The object does not exist any more."""
    return ()


@failure.error("reason")
def operation_not_allowed(reason: str) -> failure.Parameters:
    """You attempted an operation that was not allowed."""
    return (reason,)


@failure.error("class", "object", "operation_type", "operation_ref")
def other_operation_in_progress(cls: str, ref: str, details: Iterable[str]) -> failure.Parameters:
    """Another operation on the object is under way."""
    return cls, ref, *details


@failure.error("message")
def permission_denied(message: str) -> failure.Parameters:
    """The system does not allow this."""
    return (message,)


@failure.error("permission", "message")
def rbac_permission_denied(permission: str, message: str) -> failure.Parameters:
    """RBAC permission denied."""
    return permission, message


@failure.error()
def role_already_exists() -> failure.Parameters:
    """The subject already has this role."""
    return ()


@failure.error()
def role_not_found() -> failure.Parameters:
    """There is no such role."""
    return ()


@failure.error()
def session_authentication_failed(user: str, message: str) -> failure.Parameters:
    """The user name or the password is wrong."""
    return user, message


@failure.error("username", "msg")
def session_authorization_failed(user: str, message: str) -> failure.Parameters:
    """The user may not log in here."""
    return user, message


@failure.error("handle")
def session_invalid(session: str) -> failure.Parameters:
    """The session does not exist; it may have ended. Log in again."""
    return (session,)


@failure.error("handle")
def session_not_registered(session: str) -> failure.Parameters:
    """The session has not registered for events."""
    return (session,)


@failure.error()
def subject_already_exists() -> failure.Parameters:
    """The subject is already registered."""
    return ()


@failure.error()
def subject_cannot_be_resolved() -> failure.Parameters:
    """The directory does not know this subject."""
    return ()


@failure.error("task")
def task_cancelled(task: str) -> failure.Parameters:
    """The request was asynchronously canceled."""
    return (task,)


@failure.error()
def too_busy() -> failure.Parameters:
    """Too much is asked of the server at once; try again."""
    return ()


@failure.error()
def too_many_pending_tasks() -> failure.Parameters:
    """Too many requests wait for the same thing; try again."""
    return ()


@failure.error("msg")
def user_is_not_local_superuser(message: str) -> failure.Parameters:
    """Only the local superuser may do this."""
    return (message,)


@failure.error("type", "uuid")
def uuid_invalid(cls: str, uuid: str) -> failure.Parameters:
    """The uuid you supplied was invalid."""
    return cls, uuid


@failure.error("field", "value", "reason")
def value_not_supported(field: str, value: str, reason: str) -> failure.Parameters:
    """The value is valid, but not supported."""
    return field, value, reason


@failure.error("name")
def xenapi_missing_plugin(name: str) -> failure.Parameters:
    """The host has no plug-in of this name."""
    return (name,)


@failure.error("status", "stdout", "stderr")
def xenapi_plugin_failure(status: str, stdout: str, stderr: str) -> failure.Parameters:
    """The plug-in failed."""
    return status, stdout, stderr
