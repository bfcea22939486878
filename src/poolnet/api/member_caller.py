"""How does a member's console carry out a command that may cut the member off while it runs? Call by call, by new connections.

Most command lines are passed on as they are, on one connection. It would break when the member's own address moves, and
nobody would hear how the change ended. These commands run on the member instead: what they change is sent to the coordinator
as an asynchronous call, and its task is asked about until it has ended (spec §6.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast

import msgspec

from poolnet.api import xmlrpc
from poolnet.api.answer import Relayed, Request
from poolnet.api.binding import as_wire
from poolnet.api.decode import decode_value
from poolnet.api.wire import Malformed, Wire
from poolnet.model import errors
from poolnet.model.declare import MessageDecl
from poolnet.model.failure import Failure
from poolnet.model.registry import MESSAGES
from poolnet.model.types import Value
from poolnet.xe.commands.run import DRY_RUN

MOVING: Final = frozenset(
    (
        "pif-reconfigure-ip",
        "pif-reconfigure-ipv6",
        "host-management-reconfigure",
        "pool-management-reconfigure",
        "pool-bond-create",
        "bond-create",
        "bond-destroy",
    )
)
ENDS_WITHIN_S: Final = 300.0  # spec §6.2
POLL_S: Final = 0.5
ASKED_S: Final = 3.0  # a question that was asked from an address that is gone is asked again
_RESULT_LOST: Final = frozenset(("CANNOT_CONTACT_HOST", "HOST_STILL_BOOTING"))
_FORGOTTEN: Final = frozenset(("SESSION_INVALID", "HANDLE_INVALID"))
"""What a coordinator answers that has started anew, or is another one: nobody can say any more how the call ended."""

PassOn = Callable[[Request], Awaitable[Relayed]]


def runs_here(name: str, words: tuple[str, ...]) -> bool:
    """Whether a command line is carried out call by call; not one that only looks."""
    special = (f"{DRY_RUN}=", f"--{DRY_RUN}")
    return name in MOVING and not any(word.startswith(special) for word in words)


class ForwardingCaller:
    """A session at the coordinator, used from a member."""

    def __init__(self, pass_on: PassOn, session: str = "", within_s: float | None = None) -> None:
        self._pass_on = pass_on
        self._within_s = within_s
        self.session = session

    def confirming(self, within_s: float) -> ForwardingCaller:
        """The same session, asking for a time of its own for confirmations."""
        return ForwardingCaller(self._pass_on, self.session, within_s)

    async def login(self, user: str) -> None:
        """Opens the session; the console is root there as it is here. Raises Failure."""
        self.session = str(await self._post("session.login_with_password", [user, "", "1.1", "cli"]))

    async def logout(self) -> None:
        """Closes the session, if the coordinator hears it; else it ends by its age."""
        with suppress(Failure, TimeoutError):
            await self._post("session.logout", [self.session])

    async def call(self, method: str, *args: Value) -> Value:
        """Calls a message and gives its result as plain values. Raises Failure."""
        message = MESSAGES.get(method)
        if message is None:
            raise errors.message_method_unknown(method)
        params = [as_wire(arg) for arg in args]
        if message.is_async and not message.name.startswith(("get_", "assert_")):
            return await self._call_async(message, params)
        return decode_value(message.result, await self._post(method, [self.session, *params]))

    async def _call_async(self, message: MessageDecl, params: list[Any]) -> Value:
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                task = await self._begun(f"Async.{message.full_name}", params)
                await self._ended(task)
                failed = await self._patiently("task.get_error_info", task)
                result = str(await self._patiently("task.get_result", task))
                with suppress(Failure):  # how the call ended is known
                    await self._patiently("task.destroy", task)
        except TimeoutError as error:
            raise errors.cannot_contact_host(cast("Any", "")) from error
        if failed:
            raise Failure(*(str(text) for text in failed))
        return decode_value(message.result, _unpacked(result)) if result else None

    async def _begun(self, method: str, params: list[Any]) -> Any:
        """Begins an asynchronous call and gives its task, also if this host had another address before the answer came.

        Raises Failure: CANNOT_CONTACT_HOST when the coordinator has heard of no such call, or of several, of which all but
        one are somebody else's.
        """
        known = set(await self._post("task.get_all", [self.session]))
        try:
            async with asyncio.timeout(ASKED_S):
                return await self._post(method, [self.session, *params])
        except TimeoutError:
            records = await self._patiently("task.get_all_records")
        begun = [ref for ref, row in records.items() if ref not in known and row["name_label"] == method]
        if len(begun) != 1:
            raise errors.cannot_contact_host(cast("Any", ""))
        return begun[0]

    async def _ended(self, task: Any) -> None:
        """Returns when the task is pending no more."""
        while True:
            if await self._patiently("task.get_status", task) != "pending":
                return
            await asyncio.sleep(POLL_S)

    async def _patiently(self, method: str, *task: Any) -> Any:
        """Asks about the task, or all of them, until somebody answers. Raises Failure: CANNOT_CONTACT_HOST if it is forgotten."""
        while True:
            try:
                async with asyncio.timeout(ASKED_S):
                    return await self._post(method, [self.session, *task])
            except TimeoutError:
                continue
            except Failure as failure:
                if failure.code in _FORGOTTEN:
                    raise errors.cannot_contact_host(cast("Any", "")) from failure
                if failure.code not in _RESULT_LOST:
                    raise
            await asyncio.sleep(POLL_S)

    async def _post(self, method: str, params: list[Any]) -> Any:
        body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
        async with asyncio.timeout(ENDS_WITHIN_S):
            answer = msgspec.json.decode(
                (await self._pass_on(Request("/jsonrpc", body, self._within_s))).body
            )
        failure = answer.get("error")
        if failure is not None:
            raise Failure(str(failure["message"]), *(str(each) for each in failure.get("data", ())))
        return answer.get("result")


def _unpacked(result: str) -> Wire:
    """A task's result, which is kept as its XML-RPC rendering (spec §4). Raises INTERNAL_ERROR if it is none."""
    call = f"<methodCall><methodName>m</methodName><params><param>{result}</param></params></methodCall>"
    try:
        (value,) = xmlrpc.decode_call(call.encode()).params
    except (Malformed, ValueError) as error:
        raise errors.internal_error(f"the task's result cannot be read: {error}") from error
    return value
