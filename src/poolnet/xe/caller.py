"""How do `xe` commands reach the XenAPI?

Through these protocols, and through nothing else: the API server implements them on its dispatcher, the tests on a
script of answers. Values are python values: str, int, float, bool, datetime, tuple, dict, None and members of the
model's StrEnums; references are strings; records are dicts keyed by the wire's field names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from poolnet.model.types import Value as Value

Record: TypeAlias = Mapping[str, Value]
"""One object as get_record answers it: wire field name -> value."""


class Caller(Protocol):
    """One logged-in session."""

    async def call(self, method: str, *args: Value) -> Value:
        """Call `Class.message` with the arguments that follow the session.

        A message that answers nothing returns None. `get_all_records` and `get_all_records_where` return a dict from
        reference to record, `Async.*` a task reference, `event.from` the record `{"events": (…), "token": …,
        "valid_ref_counts": {…}}` whose events have `class`, `operation`, `ref` and `snapshot`.

        Raises:
            Failure: what the server answers instead of a value (poolnet.model.errors).
        """
        ...


class Login(Protocol):
    """How a command gets its session (spec xe-cli §1 step 9)."""

    async def login(self, user: str, password: str, *, local: bool) -> Caller:
        """Open a session of the CLI (originator "cli"); `local` asks for one that needs no coordinator.

        Raises:
            Failure: SESSION_AUTHENTICATION_FAILED, after the server's delay; others as session.login_with_password.
        """
        ...

    async def resume(self, session: str) -> Caller:
        """Use the session whose reference came as `session_id=…`; it is not closed afterwards.

        Raises:
            Failure: SESSION_INVALID.
        """
        ...

    def logout(self, caller: Caller) -> None:
        """Begin to close a session that `login` opened; nobody waits for that, or hears of it if it fails."""
        ...

    def confirming(self, caller: Caller, within_s: float) -> Caller:
        """Give the same session, whose changes are taken back unless they are found good in that many seconds.

        With 0 they are kept without a check.
        """
        ...

    async def dry_run(self, caller: Caller, body: Callable[[Caller], Awaitable[None]]) -> str:
        """Run `body` on a caller whose calls see and change one transaction that is thrown away afterwards.

        Returns:
            The plan of each host that the transaction would have changed, as text to print.

        Raises:
            Failure: what a call of `body` raised.
        """
        ...
