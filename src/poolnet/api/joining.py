"""How does a host join a pool, and how is it let in? The two sides of `pool.join` (spec §20.1, §20.2).

The joining host checks what can be checked, asks the coordinator to make it one of the pool's, and gets a certificate. Until
it has tried that certificate at the coordinator's door, it can go back, and does; then it starts anew as a member. Its
network is not touched: that comes afterwards, as a change by the coordinator that takes itself back.
"""

from __future__ import annotations

import base64
import shutil
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

import msgspec
import structlog

from poolnet.api.pool_client import PoolClient
from poolnet.db.body import decode_body, encode_body
from poolnet.db.database import Database
from poolnet.db.engine import StoredRow
from poolnet.db.errors import DatabaseDamaged
from poolnet.db.shape import SHAPES
from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.failure import Failure
from poolnet.model.types import Ref, Row
from poolnet.pool import membership, pki, wire
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.membership import Membership, Role, write_durably
from poolnet.pool.peer import Peer, PeerDenied, PeerGone
from poolnet.rules.admit import CLASSES, admit
from poolnet.rules.context import Session
from poolnet.rules.join import require_joinable

log = structlog.get_logger("poolnet.api.joining")

ROWS_MAX: Final = 50_000
UNPACKED_BYTES_MAX: Final = 64 * 1024 * 1024
NEW_DIRECTORY: Final = "pool.joining"


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """What a joining host sends: the request for its certificate, and its records."""

    version: int
    request: str
    rows: tuple[StoredRow, ...]


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What it gets."""

    ca: str
    certificate: str
    secret: str
    pool_uuid: str
    coordinator_uuid: str
    coordinator_address: str


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

    async def join(self, address: str, user: str, password: str, *, force: bool) -> None:
        """Joins the pool of that coordinator. Raises Failure: of the checks, or of the coordinator."""
        async with PoolClient(address, self._https_port) as pool:
            await pool.login(user, password)
            await self._coordinator.hold()
            try:
                admission = await self._enter(pool, force=force)
                self._become(
                    Membership(
                        role=Role.MEMBER,
                        coordinator_uuid=admission.coordinator_uuid,
                        coordinator_address=admission.coordinator_address or address,
                        pool_uuid=admission.pool_uuid,
                    )
                )
            except BaseException:
                self._coordinator.release()
                raise

    async def _enter(self, pool: PoolClient, *, force: bool) -> Admission:
        me = self._database.view.get(Host, self._host)
        require_joinable(self._database.view, me, await pool.target(), force=force)
        files = pki.PoolFiles(self._state_dir / NEW_DIRECTORY)
        try:
            admission = await self._apply(pool, me.uuid, files)
            try:
                await self._try(files, admission)
                self._keep(files)
            except (Failure, OSError):
                await _withdraw(pool, me.uuid)
                raise
            return admission
        finally:
            shutil.rmtree(files.directory, ignore_errors=True)

    async def _apply(self, pool: PoolClient, uuid: str, files: pki.PoolFiles) -> Admission:
        try:
            request = pki.request_certificate(files, uuid)
        except OSError as error:
            raise errors.internal_error(f"the key cannot be written: {error.strerror}") from error
        rows = tuple(stored_rows(self._database.view))
        application = Application(version=wire.VERSION, request=request, rows=rows)
        packed = base64.b64encode(zlib.compress(msgspec.json.encode(application))).decode()
        answer = await pool.call("pool.exchange_certificates_on_join", uuid, packed)
        try:
            admission = msgspec.convert(answer, Admission)
            write_durably(files.ca, admission.ca.encode())
            write_durably(files.secret, admission.secret.encode())
            write_durably(files.certificate, admission.certificate.encode())
        except (msgspec.MsgspecError, OSError) as error:
            await _withdraw(pool, uuid)
            raise errors.joining_host_service_failed() from error
        return admission

    async def _try(self, files: pki.PoolFiles, admission: Admission) -> None:
        """Raises JOINING_HOST_CONNECTION_FAILED unless the coordinator's door opens for this host."""
        peer = Peer(lambda: pki.client_context(files), self._pool_port, lambda: admission.coordinator_uuid)
        try:
            await peer.ask(admission.coordinator_address, wire.Ping(), wire.Pong)
        except (PeerGone, PeerDenied, OSError) as error:  # ssl.SSLError is an OSError
            log.warning("door-not-reached", address=admission.coordinator_address, reason=str(error))
            raise errors.joining_host_connection_failed() from error

    def _keep(self, files: pki.PoolFiles) -> None:
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
        files: pki.PoolFiles,
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

    def _make_pool(self) -> None:
        """Makes the pool's CA at its first use. Raises OSError."""
        if self._files.complete() and self._files.ca_key.is_file() and self._files.secret.is_file():
            return
        pool = next(iter(self._database.view.all(Pool)))
        local = self._database.view.get(Host, self._host)
        pki.make_pool(self._files, pool.uuid, local.uuid, self._clock())


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
