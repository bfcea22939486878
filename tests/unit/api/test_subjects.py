"""Users of a directory: who gets in, with which role, and when they are out again (spec §3.2, §3.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from poolnet.api.answer import Answer, Origin, Refusal, Success
from poolnet.model.classes.session import Session
from poolnet.model.classes.subject import Subject
from poolnet.model.errors import Failure
from poolnet.model.types import Ref, Value
from tests.in_process import InProcess, KnownPeople, with_server
from tests.unit.api.test_cli_calls import xe

REMOTE = Origin(local_root=False, peer="192.0.2.77")
PEER = "192.0.2.77"


@dataclass
class Accounts:
    """The system: `administrators` are superusers while there is no directory; everybody's password is "right"."""

    administrators: tuple[str, ...] = ("root", "admin")
    asked: list[tuple[str, bool]] = field(default_factory=list)

    async def accepts(self, user: str, password: str, *, directory: bool = False) -> bool:
        self.asked.append((user, directory))
        return password == "right" and (directory or user in self.administrators)


class World:
    """A pool with a directory: alice and bob in staff, carol in nothing, and a group of operators that alice is in."""

    def __init__(self, server: InProcess, people: KnownPeople, accounts: Accounts) -> None:
        self.server = server
        self.people = people
        self.accounts = accounts
        self.root: Ref[Session] = Ref("")

    async def begin(self) -> None:
        self.root = await self.server.sessions.login_with_password("root", "", "", local_root=True)
        pool = (await self.call("pool.get_all"))[0]  # type: ignore[index]
        await self.call("pool.enable_external_auth", pool, {}, "company", "PAM")

    async def call(self, method: str, *params: object, session: str = "") -> Value:
        answer = await self.answer(method, *params, session=session)
        assert isinstance(answer, Success), answer
        return answer.value  # type: ignore[return-value]

    async def answer(self, method: str, *params: object, session: str = "") -> Answer:
        given = [session or self.root, *params]
        return await self.server.dispatcher.dispatch(method, given, REMOTE)  # type: ignore[arg-type]

    async def admit(self, name: str, role: str | None) -> str:
        """Makes a subject with that role alone, or with none."""
        found = await self.call("auth.get_subject_identifier", name)
        ref = str(await self.call("subject.create", {"subject_identifier": found, "other_config": {}}))
        if role != "pool-admin":
            await self.call("subject.remove_from_roles", ref, await self.role("pool-admin"))
        if role not in (None, "pool-admin"):
            await self.call("subject.add_to_roles", ref, await self.role(str(role)))
        return ref

    async def role(self, name: str) -> str:
        return str((await self.call("role.get_by_name_label", name))[0])  # type: ignore[index]

    async def login(self, user: str, password: str = "right") -> str:
        return await self.server.sessions.login_with_password(user, password, "", False, PEER)

    async def refused(self, user: str, password: str = "right") -> Failure:
        with pytest.raises(Failure) as failure:
            await self.login(user, password)
        return failure.value


def with_directory(tmp_path: Path, body: Callable[[World], Awaitable[None]]) -> None:
    people, accounts = KnownPeople(), Accounts()
    people.add("alice", "u1000", "g100", "g200")
    people.add("bob", "u1001", "g100")
    people.add("carol", "u1002")
    people.add("staff", "g100")
    people.add("operators", "g200")

    async def run(server: InProcess) -> None:
        world = World(server, people, accounts)
        await world.begin()
        await body(world)

    with_server(tmp_path, run, accounts=accounts, directory=people)


def test_a_user_gets_the_highest_role_of_the_subjects_that_are_them_or_their_groups(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        await world.admit("staff", "read-only")
        await world.admit("operators", "pool-operator")
        bob, alice = await world.login("bob"), await world.login("alice")
        rows = {row.ref: row for row in world.server.database.view.all(Session)}
        assert (rows[Ref(alice)].auth_user_sid, rows[Ref(alice)].auth_user_name) == ("u1000", "alice")
        assert not rows[Ref(alice)].is_local_superuser
        assert "pif.plug" in rows[Ref(alice)].rbac_permissions
        assert "pif.plug" not in rows[Ref(bob)].rbac_permissions
        staff = next(
            row for row in world.server.database.view.all(Subject) if row.subject_identifier == "g100"
        )
        assert rows[Ref(bob)].subject == staff.ref
        refusal = await world.answer("network.create", {"other_config": {}}, session=bob)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "RBAC_PERMISSION_DENIED"
        assert refusal.params == (
            "network.create",
            "No permission in user session. "
            "(Roles with this permission: pool-admin, pool-operator, vm-power-admin, vm-admin)",
        )
        await world.call("network.create", {"other_config": {}}, session=alice)
        assert await world.call("session.get_all_subject_identifiers") == ("u1000", "u1001")

    with_directory(tmp_path, body)


def test_a_subject_s_own_row_is_named_before_its_groups(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        await world.admit("staff", "pool-admin")
        own = await world.admit("bob", "read-only")
        row = world.server.database.view.get(Session, Ref(await world.login("bob")))
        assert row.subject == own
        assert "pool.enable_external_auth" in row.rbac_permissions

    with_directory(tmp_path, body)


def test_refusals_say_what_is_missing_to_those_alone_whose_password_is_right(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        await world.admit("bob", None)
        wrong = await world.refused("bob", "wrong")
        assert (wrong.code, wrong.params[0]) == ("SESSION_AUTHENTICATION_FAILED", "bob")
        assert (await world.refused("nobody", "wrong")).params[1:] == wrong.params[1:]
        assert (await world.refused("carol")).code == "SESSION_AUTHORIZATION_FAILED"
        no_role = await world.refused("bob")
        assert (no_role.code, no_role.params[0]) == ("RBAC_PERMISSION_DENIED", "session.login_with_password")

    with_directory(tmp_path, body)


def test_with_a_directory_only_root_is_a_superuser_by_the_system_s_password(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        assert (await world.refused("admin")).code == "SESSION_AUTHORIZATION_FAILED"
        assert ("admin", False) not in world.accounts.asked
        pool = (await world.call("pool.get_all"))[0]  # type: ignore[index]
        await world.call("pool.disable_external_auth", pool)
        row = world.server.database.view.get(Session, Ref(await world.login("admin")))
        assert row.is_local_superuser

    with_directory(tmp_path, body)


async def _destroy(world: World, subject: str) -> None:
    await world.call("subject.destroy", subject)


async def _change_role(world: World, subject: str) -> None:
    await world.call("subject.add_to_roles", subject, await world.role("pool-operator"))


async def _disable(world: World, subject: str) -> None:
    pool = (await world.call("pool.get_all"))[0]  # type: ignore[index]
    await world.call("pool.disable_external_auth", pool)


async def _leave_group(world: World, subject: str) -> None:
    world.people.groups["u1001"] = frozenset()
    await world.server.sessions.revalidate()


async def _leave(world: World, subject: str) -> None:
    del world.people.entries["bob"]
    await world.server.sessions.revalidate()


@pytest.mark.parametrize("change", [_destroy, _change_role, _disable, _leave_group, _leave])
def test_a_session_ends_at_once_when_its_rights_change(
    tmp_path: Path, change: Callable[[World, str], Awaitable[None]]
) -> None:
    async def body(world: World) -> None:
        subject = await world.admit("staff", "read-only")
        bob, local = await world.login("bob"), world.root
        await world.call("pool.get_all", session=bob)
        await change(world, subject)
        refusal = await world.answer("pool.get_all", session=bob)
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.params) == ("SESSION_INVALID", (bob,))
        await world.call("pool.get_all", session=local)

    with_directory(tmp_path, body)


async def _rename(world: World, subject: str) -> None:
    await world.call("subject.add_to_roles", subject, await world.role("read-only"))


async def _another(world: World, subject: str) -> None:
    await world.admit("carol", "pool-admin")


async def _gone(world: World, subject: str) -> None:
    world.people.gone = True
    await world.server.sessions.revalidate()


@pytest.mark.parametrize("change", [_rename, _another, _gone])
def test_a_session_stays_when_its_rights_stay(
    tmp_path: Path, change: Callable[[World, str], Awaitable[None]]
) -> None:
    async def body(world: World) -> None:
        subject = await world.admit("staff", "vm-operator")
        bob = await world.login("bob")
        await change(world, subject)
        await world.call("pool.get_all", session=bob)

    with_directory(tmp_path, body)


def test_a_blocked_event_call_hears_that_its_subject_is_gone(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        subject = await world.admit("bob", "read-only")
        bob = await world.login("bob")
        batch = await world.server.events.from_(bob, ["pool"], "", 0.0)
        waiting = asyncio.create_task(world.answer("event.from", ["pool"], batch.token, 3600.0, session=bob))
        await asyncio.sleep(0)
        await world.call("subject.destroy", subject)
        answer = await asyncio.wait_for(waiting, 10)
        assert isinstance(answer, Refusal)
        assert answer.code == "SESSION_INVALID"

    with_directory(tmp_path, body)


def test_a_subject_s_sessions_are_ended_but_the_caller_s_and_superusers(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        await world.admit("staff", "pool-operator")
        bob, other, alice = await world.login("bob"), await world.login("bob"), await world.login("alice")
        await world.call("session.logout_subject_identifier", "u1001", session=bob)
        assert isinstance(await world.answer("pool.get_all", session=other), Refusal)
        for session in (bob, alice, world.root):
            await world.call("pool.get_all", session=session)

    with_directory(tmp_path, body)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("auth.get_subject_identifier", ("nobody",), "SUBJECT_CANNOT_BE_RESOLVED"),
        ("auth.get_subject_information_from_identifier", ("u99",), "SUBJECT_CANNOT_BE_RESOLVED"),
        ("auth.get_group_membership", ("g99",), "SUBJECT_CANNOT_BE_RESOLVED"),
    ],
)
def test_the_directory_is_asked_only_while_it_is_on(
    tmp_path: Path, method: str, params: tuple[str, ...], code: str
) -> None:
    async def body(world: World) -> None:
        async def code_of() -> str:
            answer = await world.answer(method, *params)
            assert isinstance(answer, Refusal)
            return answer.code

        assert await code_of() == code
        world.people.gone = True
        assert await code_of() == "AUTH_SERVICE_ERROR"
        pool = (await world.call("pool.get_all"))[0]  # type: ignore[index]
        await world.call("pool.disable_external_auth", pool)
        assert await code_of() == "AUTH_IS_DISABLED"

    with_directory(tmp_path, body)


def test_the_directory_s_groups_are_told(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        assert await world.call("auth.get_group_membership", "u1000") == ("g100", "g200")
        assert await world.call("auth.get_subject_information_from_identifier", "g100") == {
            "subject-name": "staff"
        }

    with_directory(tmp_path, body)


def test_external_authentication_is_switched_on_once_and_with_a_type_that_exists(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        pool, host = (
            (await world.call("pool.get_all"))[0],  # type: ignore[index]
            (await world.call("host.get_all"))[0],  # type: ignore[index]
        )
        again = await world.answer("pool.enable_external_auth", pool, {}, "s", "PAM")
        assert again == Refusal("POOL_AUTH_ALREADY_ENABLED", (str(host),))
        alone = await world.answer("host.enable_external_auth", host, {}, "s", "PAM")
        assert alone == Refusal("AUTH_ALREADY_ENABLED", ("PAM", "company"))
        await world.call("host.disable_external_auth", host)
        await world.call("host.disable_external_auth", host)
        unknown = await world.answer("host.enable_external_auth", host, {}, "s", "AD")
        assert unknown == Refusal("AUTH_UNKNOWN_TYPE", ("AD",))
        assert await world.answer("pool.enable_external_auth", pool, {}, "s", "") == Refusal(
            "AUTH_UNKNOWN_TYPE", ("",)
        )
        await world.call("host.enable_external_auth", host, {"a": "b"}, "s", "PAM")
        assert await world.call("host.get_external_auth_configuration", host) == {"a": "b"}

    with_directory(tmp_path, body)


def test_xe_admits_subjects_and_prints_what_a_role_may_not(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        server = world.server
        bare = await xe(server, "subject-add", "subject-name=nobody")
        assert (bare.code, bare.err) == (1, "The directory does not know this subject.\n")
        rehearsed = await xe(server, "subject-add", "subject-name=bob", "--dry-run")
        assert rehearsed.code == 0, rehearsed.err
        assert server.database.view.count(Subject) == 0
        uuid = (await xe(server, "subject-add", "subject-name=bob")).out.strip()
        shown = await xe(server, "subject-list")
        for text in (f"uuid ( RO)                  : {uuid}", "u1001", "subject-name: bob", "pool-admin"):
            assert text in shown.out
        taken = await xe(server, "subject-role-remove", f"uuid={uuid}", "role-name=pool-admin")
        added = await xe(server, "subject-role-add", f"uuid={uuid}", "role-name=read-only")
        assert (taken.code, added.code) == (0, 0)
        wrong = await xe(server, "subject-role-add", f"uuid={uuid}", "role-name=king")
        assert wrong.err == "There is no such role.\n"
        bob = await world.login("bob")
        denied = await xe(server, f"session_id={bob}", "network-create", "name-label=n")
        assert denied.code == 1
        assert denied.err == (
            "RBAC permission denied.\n"
            "permission: network.create\n"
            "message: No permission in user session. "
            "(Roles with this permission: pool-admin, pool-operator, vm-power-admin, vm-admin)\n"
        )
        listed = await xe(server, "session-subject-identifier-list")
        assert listed.out.strip() == "subject-identifier ( RO)    : u1001"
        assert (await xe(server, "subject-remove", f"subject-uuid={uuid}")).code == 0
        assert "session" in (await xe(server, f"session_id={bob}", "network-list")).err

    with_directory(tmp_path, body)
