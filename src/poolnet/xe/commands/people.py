"""Which commands deal with users, subjects, sessions, messages, secrets and PCI devices? (spec xe-cli §7)."""

from __future__ import annotations

from typing import Final, cast

from poolnet.model.types import NULL, Value
from poolnet.xe.commands.command import Call, Command
from poolnet.xe.commands.one_call import message, one_call, ref, text, uuid_of
from poolnet.xe.params import integer, items
from poolnet.xe.refusals import Refused
from poolnet.xe.texts import enum_value

_ABOUT: Final = (("vm-uuid", "VM"), ("pool-uuid", "Pool"), ("sr-uuid", "SR"), ("host-uuid", "Host"))


async def _message_create(call: Call) -> None:
    about = [(name, cls) for name, cls in _ABOUT if name in call.params]
    if len(about) != 1:
        raise Refused("You must specify exactly one of vm-uuid, pool-uuid, sr-uuid or host-uuid")
    name, cls = about[0]
    priority = integer("priority", call.params.required("priority"))
    title, body = call.params.required("name"), call.params.required("body")
    await call.api(
        "message.create", title, priority, enum_value("cls", cls), call.params.required(name), body
    )


async def _message_destroy(call: Call) -> None:
    if ("uuid" in call.params) == ("uuids" in call.params):
        raise Refused("You must specify either uuid or uuids")
    uuids = items(call.params.get("uuids")) or (call.params.get("uuid"),)
    found = tuple([await call.api("message.get_by_uuid", uuid) for uuid in uuids])
    await call.api("message.destroy_many", found)


async def _message_destroy_all(call: Call) -> None:
    given = ("before", "after", "priority")
    filters: dict[str, Value] = {name: call.params.get(name) for name in given if name in call.params}
    await call.api("message.destroy_all", filters)


async def _subject_add(call: Call) -> None:
    name = call.params.required("subject-name")
    identifier = await call.api("auth.get_subject_identifier", name)
    facts = await call.api("auth.get_subject_information_from_identifier", identifier)
    record: dict[str, Value] = {"subject_identifier": identifier, "other_config": facts}
    await uuid_of("subject")(call, await call.api("subject.create", record))


async def _role_add(call: Call) -> None:
    await _change_role(call, "subject.add_to_roles")


async def _role_remove(call: Call) -> None:
    await _change_role(call, "subject.remove_from_roles")


async def _change_role(call: Call, method: str) -> None:
    if ("role-name" in call.params) == ("role-uuid" in call.params):
        raise Refused("You must specify either role-name or role-uuid")
    if "role-uuid" in call.params:
        role: Value = await call.find("role", "role-uuid")
    else:
        named = await call.api("role.get_by_name_label", call.params.get("role-name"))
        role = next(iter(cast("tuple[str, ...]", named)), NULL)
    await call.api(method, await call.find("subject"), role)


async def _identifiers(call: Call) -> None:
    found = cast("tuple[str, ...]", await call.api("session.get_all_subject_identifiers"))
    await call.printer.table([[("subject-identifier ( RO)", identifier)] for identifier in found])


async def _logout_all(call: Call) -> None:
    for identifier in cast("tuple[str, ...]", await call.api("session.get_all_subject_identifiers")):
        await call.api("session.logout_subject_identifier", identifier)


async def _enable_external_auth(call: Call) -> None:
    await _alone(call)
    host, config = await call.find("host", "host-uuid"), call.params.mapping("config")
    service, kind = call.params.required("service-name"), call.params.required("auth-type")
    await call.api("host.enable_external_auth", host, config, service, kind)


async def _disable_external_auth(call: Call) -> None:
    await _alone(call)
    await call.api(
        "host.disable_external_auth", await call.find("host", "host-uuid"), call.params.mapping("config")
    )


async def _alone(call: Call) -> None:
    if "force" not in call.params:
        raise Refused("The hosts of a pool share one directory. A host is treated alone only with --force.")


async def _secret_create(call: Call) -> None:
    record: dict[str, Value] = {"value": call.params.required("value"), "other_config": {}}
    await uuid_of("secret")(call, await call.api("secret.create", record))


COMMANDS: Final = (
    Command(
        name="message-create",
        action=_message_create,
        required=("name", "priority", "body"),
        optional=("vm-uuid", "host-uuid", "sr-uuid", "pool-uuid"),
        summary="Creates an alert about a VM, a host, an SR or the pool.",
    ),
    Command(
        name="message-destroy",
        action=_message_destroy,
        optional=("uuid", "uuids"),
        summary="Destroys alerts.",
    ),
    Command(
        name="message-destroy-all",
        action=_message_destroy_all,
        optional=("before", "after", "priority"),
        summary="Destroys all alerts, or those of a time or priority.",
    ),
    one_call(
        "user-password-change",
        "session.change_password",
        text("old"),
        text("new"),
        required=("new",),
        optional=("old",),
        summary="Changes the password of the user who is logged in.",
    ),
    Command(
        name="subject-add",
        action=_subject_add,
        required=("subject-name",),
        summary="Lets a user or group of the directory service log in. Prints the subject's uuid.",
    ),
    one_call(
        "subject-remove",
        "subject.destroy",
        ref("subject", "subject-uuid"),
        required=("subject-uuid",),
        summary="Lets a user or group of the directory service log in no longer.",
    ),
    Command(
        name="subject-role-add",
        action=_role_add,
        required=("uuid",),
        optional=("role-name", "role-uuid"),
        summary="Gives a subject a role.",
    ),
    Command(
        name="subject-role-remove",
        action=_role_remove,
        required=("uuid",),
        optional=("role-name", "role-uuid"),
        summary="Takes a role from a subject.",
    ),
    Command(
        name="session-subject-identifier-list",
        action=_identifiers,
        changes=False,
        summary="Lists the users of the directory service who are logged in.",
    ),
    one_call(
        "session-subject-identifier-logout",
        "session.logout_subject_identifier",
        text("subject-identifier"),
        required=("subject-identifier",),
        summary="Ends the sessions of a user of the directory service.",
    ),
    Command(
        name="session-subject-identifier-logout-all",
        action=_logout_all,
        summary="Ends the sessions of all users of the directory service.",
    ),
    Command(
        name="host-enable-external-auth",
        action=_enable_external_auth,
        required=("host-uuid", "auth-type", "service-name"),
        optional=("config:",),
        hidden=True,
        summary="Lets a directory's users log in on one host. Only with force.",
    ),
    Command(
        name="host-disable-external-auth",
        action=_disable_external_auth,
        required=("host-uuid",),
        optional=("config:",),
        hidden=True,
        summary="Ends the use of a directory on one host. Only with force.",
    ),
    Command(
        name="secret-create",
        action=_secret_create,
        required=("value",),
        summary="Keeps a secret. Prints its uuid.",
    ),
    one_call(
        "secret-destroy", "secret.destroy", ref("secret"), required=("uuid",), summary="Destroys a secret."
    ),
    *(
        one_call(
            f"pci-{verb}-dom0-access",
            f"PCI.{verb}_dom0_access",
            ref("PCI"),
            prints=message,
            required=("uuid",),
            summary=f"Makes the host's own access to a PCI device {verb}d from the next start on.",
        )
        for verb in ("enable", "disable")
    ),
    one_call(
        "pci-get-dom0-access-status",
        "PCI.get_dom0_access_status",
        ref("PCI"),
        prints=message,
        changes=False,
        required=("uuid",),
        summary="Says whether the host itself uses a PCI device.",
    ),
)
