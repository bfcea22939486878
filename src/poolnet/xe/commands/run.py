"""How is one request of a thin client answered? Words in, prints and an exit code out (spec xe-cli §1, steps 3 to 10).

The API server calls `run` with the lines of a `POST /cli` and its two protocols; nothing else is public here.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from poolnet.model.errors import Failure, internal_error
from poolnet.xe.caller import Caller, Login
from poolnet.xe.client import Client
from poolnet.xe.commands.catalog import COMMANDS
from poolnet.xe.commands.command import Call, Command
from poolnet.xe.commands.help import show_help
from poolnet.xe.failures import failure_text
from poolnet.xe.params import Params, integer, loose_boolean, parse
from poolnet.xe.printers import Printer
from poolnet.xe.refusals import (
    BadSyntax,
    Finished,
    MissingParameter,
    Refused,
    UnknownCommand,
    UnknownParamName,
)

SESSION: Final = "session_id="
DRY_RUN: Final = "dry-run"
CONFIRM_WITHIN: Final = "confirm-within"
CONFIRM_WITHIN_MAX_S: Final = 3600
_HOW: Final = frozenset((DRY_RUN, CONFIRM_WITHIN))  # of every command that changes something
SEE_HELP: Final = "For usage run: 'xe help'\n"
_EXPECTED: Final = (
    BadSyntax,
    Finished,
    MissingParameter,
    Refused,
    UnknownCommand,
    UnknownParamName,
    Failure,
)


class _LoginFailed(Exception):
    """No session could be opened; says whether a user was named at all."""

    def __init__(self, *, user: str) -> None:
        super().__init__(user)
        self.user = user


async def run(words: Sequence[str], client: Client, login: Login) -> None:
    """Carry out one command and tell the client how it ended.

    Args:
        words: the lines of the request; a line `session_id=REF` may come first, and a line may end in a return.
        client: the thin client that gets the answer; `exit` is always called.
        login: opens and closes sessions.
    """
    lines = [word.removesuffix("\r") for word in words]
    session = None
    if lines and lines[0].startswith(SESSION):
        session = lines.pop(0).removeprefix(SESSION)
    request = _Request(client, login, session)
    try:
        await client.exit(await request.answer(lines))
    finally:
        request.close()  # last: the answer is the client's by now, whatever becomes of the session


class _Request:
    """One request on its way: the session that it opens, and closes whatever happens."""

    def __init__(self, client: Client, login: Login, session: str | None) -> None:
        self.client = client
        self.login = login
        self.session = session
        self.trace = False
        self.caller: Caller | None = None

    async def answer(self, lines: Sequence[str]) -> int:
        """Carry the command out, say what went wrong, and give the exit code."""
        try:
            await self._carry_out(lines)
        except Finished as finished:
            return finished.code
        except (*_EXPECTED, _LoginFailed) as error:
            await _tell(error, self.client, self.caller)
            if self.trace:
                trail = "".join(traceback.format_exception(error))
                await self.client.print_error(f"Raised {error!r}\nBacktrace:\n{trail}\n")
            return 1
        return 0

    async def _carry_out(self, lines: Sequence[str]) -> None:
        """Parse, check, log in and run; raises what `answer` reports."""
        name, params = parse(lines)
        self.trace = "trace" in params
        printer = Printer(self.client, minimal=_minimal(params))
        if name == "help":
            await show_help(params, printer, COMMANDS, minimal=_minimal(params))
        else:
            command = COMMANDS.get(name)
            if command is None:
                raise UnknownCommand(name)
            command.require(params)
            caller = await self._log_in(command, params)
            if command.changes:
                within_s = _confirm_within(params)
                dry = loose_boolean(DRY_RUN, params.get(DRY_RUN, "false"))
                params = params.without(_HOW)
                if dry:
                    await self._rehearse(command, params, caller)
                    return
                if within_s is not None:
                    caller = self.login.confirming(caller, within_s)
            await command.action(Call(params=params, caller=caller, client=self.client, printer=printer))
        await printer.finish()

    def close(self) -> None:
        """Log out, unless the session was the client's own."""
        if self.caller is not None and self.session is None:
            self.login.logout(self.caller)

    async def _log_in(self, command: Command, params: Params) -> Caller:
        if self.session is not None:
            self.caller = await self.login.resume(self.session)
            return self.caller
        user = params.get("username")
        try:
            self.caller = await self.login.login(user, params.get("password"), local=command.local)
        except Failure as failure:
            if failure.code != "SESSION_AUTHENTICATION_FAILED":
                raise
            raise _LoginFailed(user=user) from None
        return self.caller

    async def _rehearse(self, command: Command, params: Params, caller: Caller) -> None:
        """Print what the command would do on each host, and nothing else; or which objects it would fail on."""
        silent = _Silent(self.client)

        async def rehearse(rehearsed: Caller) -> None:
            muted = Printer(silent, minimal=False)
            await command.action(
                Call(params=params, caller=rehearsed, client=silent, printer=muted, dry=True)
            )

        try:
            plan = await self.login.dry_run(caller, rehearse)
        except Finished:
            for write, text in silent.kept:
                await write(text)
            raise
        await self.client.print(plan.removesuffix("\n"))


class _Silent:
    """The client as a dry run sees it: nothing is printed, nothing is asked, and every question is agreed to."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.kept: list[tuple[Callable[[str], Awaitable[None]], str]] = []

    async def print(self, text: str) -> None:
        """Keep quiet, and the text, in case the command fails."""
        self.kept.append((self._client.print, text))

    async def print_error(self, text: str) -> None:
        """Keep quiet, and the text, in case the command fails."""
        self.kept.append((self._client.print_error, text))

    async def error(self, code: str, params: Sequence[str]) -> None:
        """Keep quiet."""

    async def prompt(self) -> str:
        """Agree: nothing is going to happen."""
        return "yes"

    async def load(self, name: str) -> bytes:
        """Read the client's file."""
        return await self._client.load(name)

    async def download(self, name: str, url: str) -> bool:
        """Fetch nothing."""
        return True

    async def exit(self, code: int) -> None:
        """Leave the end to the real run."""


def _confirm_within(params: Params) -> float | None:
    """Read how many seconds a change has to be confirmed in. Raises Refused."""
    text = params.find(CONFIRM_WITHIN)
    if text is None:
        return None
    seconds = integer(CONFIRM_WITHIN, text)
    if not 0 <= seconds <= CONFIRM_WITHIN_MAX_S:
        raise Refused(f"{CONFIRM_WITHIN} must be from 0 to {CONFIRM_WITHIN_MAX_S} seconds")
    return float(seconds)


def _minimal(params: Params) -> bool:
    """Read `minimal`, which is stricter than other booleans."""
    value = params.get("minimal", "false")
    if value not in ("true", "false"):
        raise internal_error("Invalid_argument: bool_of_string")
    return value == "true"


async def _tell(error: Exception, client: Client, caller: Caller | None) -> None:
    """Write the text of an error to stderr."""
    match error:
        case UnknownCommand():
            await client.print_error(f"Unknown command: {error}\n{SEE_HELP}")
        case MissingParameter():
            await client.print_error(f"Required parameter not found: {error}\n{SEE_HELP}")
        case BadSyntax():
            await client.print_error(f"Syntax error: \n{SEE_HELP}")
        case _LoginFailed():
            reason = "Authentication failed" if error.user else "Username/password must be specified"
            await client.print_error(f"{reason}\n{SEE_HELP}")
        case Refused():
            await client.print_error(f"Error: {error}\n")
        case UnknownParamName():
            await client.error("Missing parameter", [str(error)])
        case Failure():
            text = await failure_text(error, caller)
            if text is None:
                await client.error(error.code, error.params)
            else:
                await client.print_error(f"{text}\n")
