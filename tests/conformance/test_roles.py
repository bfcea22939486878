"""Every message that poolnet carries out, sent by every role over both encodings: answered or denied as the model declares.

The calls go over a socket, with null references and the smallest values of the declared types: who is let through is told
that there is no such object, or gets an answer. Keys of maps that have a role of their own are sent too.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import unescape

import pytest

from poolnet.api.http import HttpServer
from poolnet.api.surface import implemented
from poolnet.model.declare import REMOVED, MessageDecl
from poolnet.model.enums import ENUMS
from poolnet.model.registry import CLASSES, MESSAGES
from poolnet.model.roles import Role, allows, roles_with
from poolnet.model.types import (
    BoolT,
    DateTimeT,
    EnumT,
    FloatT,
    Int32T,
    IntT,
    MapT,
    RecordT,
    RefT,
    SetT,
    WireType,
)
from tests.fuzz.grammar import json_body, xml_body
from tests.in_process import InProcess, in_process, login_as
from tests.unit.api.toy import no_cli, post

AT_ONCE: Final = 24
WAITING: Final = frozenset(("event.from", "event.next"))
ENDS_SESSION: Final = frozenset(("session.logout", "session.local_logout"))
CODES: Final = re.compile(r"<value>([^<]*)</value>")
POOL_ONLY: Final = "pool_internal_session_only"


@dataclass(frozen=True, slots=True)
class Case:
    """One call, the permission that it needs, and the least role that has it."""

    message: MessageDecl
    params: tuple[Any, ...]
    permission: str
    least: Role | None

    def expected(self, role: Role | None) -> tuple[str, ...] | None:
        """The refusal that this role must get; None for no refusal of this kind."""
        if POOL_ONLY in self.message.flags:
            text = f'Internal API "{self.message.full_name}" call attempted with non-pool (external) session'
            return ("INTERNAL_ERROR", text)
        if REMOVED in self.message.flags:
            return ("MESSAGE_REMOVED",)
        if role is None or allows(role, self.least):
            return None
        holders = ", ".join(roles_with(self.least))
        text = f"No permission in user session. (Roles with this permission: {holders})"
        return ("RBAC_PERMISSION_DENIED", self.permission, text)


def smallest(wire_type: WireType) -> Any:
    match wire_type:
        case IntT() | Int32T() | FloatT():
            return 0
        case BoolT():
            return False
        case DateTimeT():
            return "19700101T00:00:00Z"
        case EnumT(name):
            return next(iter(ENUMS[name])).value
        case RefT():
            return "OpaqueRef:NULL"
        case SetT():
            return []
        case MapT():
            return {}
        case RecordT(cls):
            fields = CLASSES[cls].fields
            return {field.name: smallest(field.wire_type) for field in fields if field.constructor_required}
        case _:
            return "x"


def cases() -> Iterator[Case]:
    for name, message in sorted(MESSAGES.items()):
        if not implemented(message) or not message.session_arg or name in ENDS_SESSION:
            continue
        params = tuple(smallest(param.wire_type) for param in message.params)
        yield Case(message, params, name.lower(), message.min_role)
        at = next((i for i, param in enumerate(message.params) if param.name == "key"), None)
        for key, least in message.map_key_roles.items():
            assert at is not None
            sent = (*params[:at], key.replace("*", "anything"), *params[at + 1 :])
            yield Case(message, sent, f"{name.lower()}/key:{key}", least)


def refusal_of(codec: str, answer: bytes) -> tuple[str, ...] | None:
    """The error of an answer, in either encoding; None for a success."""
    _, _, body = answer.partition(b"\r\n\r\n")
    if codec == "jsonrpc":
        error = json.loads(body).get("error")
        return None if error is None else (error["message"], *error["data"])
    text = body.decode()
    if "<value>Failure</value>" not in text:
        return None
    inner = text.partition("ErrorDescription</name>")[2]
    return tuple(unescape(each, {"&quot;": '"'}) for each in CODES.findall(inner))


class Asking:
    """Several connections that take the cases from one list."""

    def __init__(self, server: InProcess, socket: Path, codec: str, role: Role | None) -> None:
        self._server = server
        self._socket = socket
        self._codec = codec
        self._role = role
        self._session = ""
        self.wrong: list[str] = []
        self.asked = 0

    async def ask(self, all_cases: list[Case]) -> None:
        self._session = await login_as(self._server, self._role)
        left = iter(all_cases)
        await asyncio.gather(*(self._work(left) for _ in range(AT_ONCE)))

    async def _work(self, left: Iterator[Case]) -> None:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        for case in left:
            expected = case.expected(self._role)
            if case.message.full_name in WAITING and expected is None:
                continue  # let through, it would wait; test_events shows what comes then
            names = [case.message.full_name]
            if expected is not None and case.message.is_async and expected[0] == "RBAC_PERMISSION_DENIED":
                names.append(f"Async.{case.message.full_name}")
            for name in names:
                found = refusal_of(self._codec, await self._post(reader, writer, name, case.params))
                self.asked += 1
                self._judge(name, found, expected)
        writer.close()

    async def _post(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        name: str,
        params: tuple[Any, ...],
    ) -> bytes:
        given = [self._session, *params]
        if self._codec == "jsonrpc":
            request = post("/jsonrpc", json_body(name, given, "2.0", 1), "Host: h", version="1.1")
        else:
            request = post("/RPC2", xml_body(name, given), "Host: h", version="1.1")
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None, head
        return head + await reader.readexactly(int(length[1]))

    def _judge(self, name: str, found: tuple[str, ...] | None, expected: tuple[str, ...] | None) -> None:
        if expected is not None:
            if found != expected:
                self.wrong.append(f"{name} by {self._role}: {found}, not {expected}")
        elif found is not None and found[0] in (
            "RBAC_PERMISSION_DENIED",
            "SESSION_INVALID",
            "MESSAGE_METHOD_UNKNOWN",
        ):
            self.wrong.append(f"{name} by {self._role}: {found}")


@pytest.mark.parametrize("codec", ["xmlrpc", "jsonrpc"])
def test_each_role_may_send_exactly_what_is_declared(tmp_path: Path, codec: str) -> None:
    all_cases = list(cases())
    assert len({case.message.full_name for case in all_cases}) > 1000

    async def body() -> None:
        async with in_process(tmp_path) as server:
            http = HttpServer(server.dispatcher, no_cli, budgets=server.budgets)
            http.listen_unix(tmp_path / "socket", mode=0o600)
            try:
                for role in (*Role, None):
                    asking = Asking(server, tmp_path / "socket", codec, role)
                    await asking.ask(all_cases)
                    assert asking.wrong == []
                    assert asking.asked > len(all_cases) - 10
            finally:
                await http.close()

    asyncio.run(body())
