"""How does a host join a pool, and how is it let in? The two sides of `pool.join` (spec §20.1, §20.2).

The joining host checks what can be checked, asks the coordinator to make it one of the pool's, and gets a certificate. Until
it has tried that certificate at the coordinator's door, it can go back, and does; then it starts anew as a member. Its
network is not touched: that comes afterwards, as a change by the coordinator that takes itself back.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

import msgspec
import structlog

from poolnet.api.joining_trust import TrustGiven
from poolnet.api.pool_client import PoolClient
from poolnet.db.body import decode_body, encode_body
from poolnet.db.database import Database
from poolnet.db.engine import StoredRow
from poolnet.db.errors import DatabaseDamaged
from poolnet.db.shape import SHAPES
from poolnet.db.txn import View
from poolnet.hostnet.facts import HostFacts
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.failure import Failure
from poolnet.model.types import Ref, Row, Value
from poolnet.pool import authority, membership, pki, trusted, wire
from poolnet.pool.authority import PoolFiles
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.membership import Membership, Role, write_durably
from poolnet.pool.peer import Peer, PeerDenied, PeerGone
from poolnet.pool.trusted import TrustedBroken
from poolnet.rules.admit import CLASSES, admit
from poolnet.rules.context import Session
from poolnet.rules.explain_admission import Admitted, explain_admission
from poolnet.rules.join import Target, obstacles, require_joinable
from poolnet.rules.join_advice import clear, explained, require_clearable
from poolnet.rules.join_text import show_joining

log = structlog.get_logger("poolnet.api.joining")

ROWS_MAX: Final = 50_000
UNPACKED_BYTES_MAX: Final = 64 * 1024 * 1024
LOST: Final = errors.joining_host_connection_failed().code
NEW_DIRECTORY: Final = "pool.joining"


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """What a joining host sends: the request for its certificate, its records, and what it reports when it only asks."""

    version: int
    request: str
    rows: tuple[StoredRow, ...]
    facts: HostFacts = HostFacts()


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What it gets."""

    ca: str
    certificate: str
    secret: str
    pool_uuid: str
    coordinator_uuid: str
    coordinator_address: str


@dataclass(slots=True)
class _Entry:
    """One attempt to join: at which coordinator, and how far it has come."""

    pool: PoolClient
    files: PoolFiles
    target: Target
    force: bool
    given: TrustGiven
    held: bool = False
    admission: Admission | None = None

    def membership(self, address: str) -> Membership:
        """What this host is once it is let in at that address."""
        if self.admission is None:
            raise TypeError("it is not let in")
        return Membership(
            role=Role.MEMBER,
            coordinator_uuid=self.admission.coordinator_uuid,
            coordinator_address=self.admission.coordinator_address or address,
            pool_uuid=self.admission.pool_uuid,
        )


class Joining:
    """This host's side, while it is a pool of its own.

    Args:
        database: Its database.
        coordinator: Who carries out its calls; not while it joins, and never again once it has.
        host: Itself.
        state_dir: Where its certificates and its role are kept.
        https_port: The port of other hosts' API servers.
        pool_port: The port of the doors between hosts.
        become: Has the server start anew in another role, soon.
    """

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        host: Ref[Host],
        state_dir: Path,
        https_port: int,
        pool_port: int,
        become: Callable[[Membership], None],
    ) -> None:
        self._database = database
        self._coordinator = coordinator
        self._host = host
        self._state_dir = state_dir
        self._https_port = https_port
        self._pool_port = pool_port
        self._become = become

    async def join(self, address: str, user: str, password: str, *, force: bool, fix: bool = False) -> None:
        """Joins the pool of that coordinator. With `fix`, what the pool's way of networking replaces is removed before.

        That is one change of this host together with the joining: if it is not let in, the host is as it was.

        Raises Failure: of the checks, or of the coordinator.
        """
        async with PoolClient(address, self._https_port) as pool:
            await pool.login(user, password)
            target = await pool.target()
            files = PoolFiles(self._state_dir / NEW_DIRECTORY)
            entry = _Entry(pool, files, target, force, TrustGiven(pool, target))
            try:
                if fix:
                    await self._clear_and_enter(entry)
                else:
                    await self._coordinator.hold()
                    entry.held = True
                    await self._enter(entry, self._database.view)
                self._keep(entry.files)
                self._become(entry.membership(address))
            except BaseException:
                if entry.held:
                    self._coordinator.release()
                if entry.admission is not None:
                    await entry.given.take_back()
                    await _withdraw(pool, self._me(self._database.view).uuid)
                raise
            finally:
                shutil.rmtree(entry.files.directory, ignore_errors=True)

    async def _clear_and_enter(self, entry: _Entry) -> None:
        """Removes what is in the way, and enters, before the removal is confirmed; nothing is carried out afterwards."""
        view = self._database.view
        require_clearable(view, self._me(view), entry.target, force=entry.force)
        holding: list[asyncio.Task[None]] = []

        async def enter(view: View) -> None:
            holding.append(asyncio.create_task(self._coordinator.hold()))  # the next turn is nobody else's
            await self._enter(entry, view)

        arguments: dict[str, Value] = {}
        call = RuleCall(
            method="pool.join", rule=clear, arguments=arguments, session=Session(), before_commit=enter
        )
        try:
            await self._coordinator.run(call)
        finally:
            for task in holding:
                await task
                entry.held = True

    def _me(self, view: View) -> Host:
        return view.get(Host, self._host)

    async def _enter(self, entry: _Entry, view: View) -> None:
        me = self._me(view)
        require_joinable(view, me, entry.target, force=entry.force)
        entry.admission = await self._apply(entry.pool, me.uuid, entry.files, view)
        await self._try(entry.files, entry.admission)
        try:
            await entry.given.give(trusted.load(pki.pool_files(self._state_dir)))
        except TrustedBroken as error:
            raise Failure("CERTIFICATE_LIBRARY_CORRUPT") from error

    async def explain(self, address: str, user: str, password: str, *, force: bool, fix: bool) -> str:
        """What joining would do, NIC by NIC, and what is in the way. Raises Failure: the coordinator does not answer."""
        async with PoolClient(address, self._https_port) as pool:
            await pool.login(user, password)
            target = await pool.target()
            txn = self._database.begin()
            me = self._me(txn)
            found = [explained(txn, me, target, each) for each in obstacles(txn, me, target, force=force)]
            if fix:
                with suppress(Failure):  # it remains an obstacle then
                    trial = txn.nested()
                    clear(self._coordinator.context(trial, Session()))
                    trial.merge()
            admitted = None
            with suppress(Failure, msgspec.MsgspecError, TypeError):  # an obstacle says why
                application = Application(
                    version=wire.VERSION,
                    request="",
                    rows=tuple(stored_rows(txn)),
                    facts=self._coordinator.facts_here,
                )
                text = await pool.call("pool.explain_admission", me.uuid, _packed(application))
                admitted = msgspec.json.decode(text, type=Admitted)
            return show_joining(me.name_label, target.coordinator.name_label, found, admitted, fix=fix)

    async def _apply(self, pool: PoolClient, uuid: str, files: PoolFiles, view: View) -> Admission:
        try:
            request = pki.request_certificate(files, uuid)
        except OSError as error:
            raise errors.internal_error(f"the key cannot be written: {error.strerror}") from error
        application = Application(version=wire.VERSION, request=request, rows=tuple(stored_rows(view)))
        try:
            answer = await pool.call("pool.exchange_certificates_on_join", uuid, _packed(application))
        except Failure as failure:
            if failure.code == LOST:  # it may have been let in all the same
                await _withdraw(pool, uuid)
            raise
        try:
            admission = msgspec.convert(answer, Admission)
            write_durably(files.ca, admission.ca.encode())
            write_durably(files.secret, admission.secret.encode())
            write_durably(files.certificate, admission.certificate.encode())
        except (msgspec.MsgspecError, OSError) as error:
            await _withdraw(pool, uuid)
            raise errors.joining_host_service_failed() from error
        return admission

    async def _try(self, files: PoolFiles, admission: Admission) -> None:
        """Raises JOINING_HOST_CONNECTION_FAILED unless the coordinator's door opens for this host."""
        peer = Peer(lambda: pki.client_context(files), self._pool_port, lambda: admission.coordinator_uuid)
        try:
            await peer.ask(admission.coordinator_address, wire.Ping(), wire.Pong)
        except (PeerGone, PeerDenied, OSError) as error:  # ssl.SSLError is an OSError
            log.warning("door-not-reached", address=admission.coordinator_address, reason=str(error))
            raise errors.joining_host_connection_failed() from error

    def _keep(self, files: PoolFiles) -> None:
        """Puts the new pool's certificates in the place of those of this host's own pool."""
        place = self._state_dir / membership.POOL_DIRECTORY
        shutil.rmtree(place, ignore_errors=True)
        files.directory.rename(place)


async def _withdraw(pool: PoolClient, uuid: str) -> None:
    """Has the coordinator forget this host again, as far as it can be told to."""
    with suppress(Failure):
        await pool.call("host.destroy", await pool.call("host.get_by_uuid", uuid))


def stored_rows(view: View) -> Sequence[StoredRow]:
    """What a joining host tells of itself."""
    return [
        StoredRow(class_name=SHAPES[cls].name, ref=row.ref, created=0, modified=0, body=encode_body(row))
        for cls in CLASSES
        for row in view.all(cast("type[Row]", cls))
    ]


class Admitting:
    """The coordinator's side.

    Args:
        database: The pool's.
        coordinator: Who carries out what is decided.
        host: The coordinator itself.
        files: Where the pool's CA is, or will be.
        clock: The current time in UTC.
        open_door: Opens the door between hosts, unless it is open.
    """

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        host: Ref[Host],
        files: PoolFiles,
        clock: Callable[[], datetime],
        open_door: Callable[[], None],
    ) -> None:
        self._database = database
        self._coordinator = coordinator
        self._host = host
        self._files = files
        self._clock = clock
        self._open_door = open_door

    async def admit(self, uuid: str, packed: str) -> dict[str, str]:
        """Makes a host one of the pool, and gives it what it needs to come.

        Raises:
            OPERATION_NOT_ALLOWED: It is in the pool already, or what it sent is not what a host sends.
            INTERNAL_ERROR: The pool's own certificates cannot be made.
        """
        application, rows = _unpacked(packed)
        try:
            uuid = str(UUID(uuid))
            self._make_pool()
            certificate = pki.grant_certificate(self._files, application.request, uuid, self._clock())
            self._open_door()
        except ValueError as error:  # BadRequest is one
            raise errors.operation_not_allowed(str(error)) from error
        except OSError as error:
            raise errors.internal_error(f"the pool's certificates: {error.strerror}") from error
        arguments: dict[str, Any] = {"uuid": uuid, "rows": rows}
        await self._coordinator.run(
            RuleCall(method="pool.admit", rule=admit, arguments=arguments, session=Session())
        )
        local = self._database.view.get(Host, self._host)
        admission = Admission(
            ca=self._files.ca.read_text(),
            certificate=certificate,
            secret=self._files.secret.read_text(),
            pool_uuid=next(iter(self._database.view.all(Pool))).uuid,
            coordinator_uuid=local.uuid,
            coordinator_address=local.address,
        )
        return {name: str(value) for name, value in msgspec.to_builtins(admission).items()}

    def explain(self, uuid: str, packed: str) -> str:
        """What would become of a host if it was let in, as a JSON text. Raises OPERATION_NOT_ALLOWED, HA_IS_ENABLED."""
        application, rows = _unpacked(packed)
        context = self._coordinator.context(self._database.begin(), Session())
        admitted = explain_admission(context, uuid=uuid, rows=rows, facts=application.facts)
        return msgspec.json.encode(admitted).decode()

    def _make_pool(self) -> None:
        """Makes the pool's CA at its first use. Raises OSError."""
        pool = next(iter(self._database.view.all(Pool)))
        if self._files.complete() and self._files.secret.is_file():
            if not authority.has_authority(self._files):
                authority.begin_authority(self._files, pool.uuid, self._clock())
            return
        local = self._database.view.get(Host, self._host)
        pki.make_pool(self._files, pool.uuid, local.uuid, self._clock())


def _packed(application: Application) -> str:
    """What a joining host sends, as one text."""
    return base64.b64encode(zlib.compress(msgspec.json.encode(application))).decode()


def _unpacked(packed: str) -> tuple[Application, tuple[Row, ...]]:
    """What a joining host sent. Raises OPERATION_NOT_ALLOWED."""
    try:
        inflate = zlib.decompressobj()
        text = inflate.decompress(base64.b64decode(packed, validate=True), UNPACKED_BYTES_MAX)
        application = msgspec.json.decode(text, type=Application)
        names = {SHAPES[cls].name for cls in CLASSES}
        rows = [
            decode_body(row.class_name, row.ref, row.body)
            for row in application.rows[:ROWS_MAX]
            if row.class_name in names
        ]
    except (ValueError, zlib.error, msgspec.MsgspecError, DatabaseDamaged) as error:
        reason = f"The joining host's records cannot be used: {type(error).__name__}"
        raise errors.operation_not_allowed(reason) from error
    if application.version != wire.VERSION:
        raise errors.operation_not_allowed(f"The joining host speaks version {application.version}")
    if len(application.rows) > ROWS_MAX:
        raise errors.operation_not_allowed("The joining host has too many objects")
    return application, tuple(row for row in rows if row is not None)
