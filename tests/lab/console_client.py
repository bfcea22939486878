"""Calls at the console of a lab host, as its administrator makes them: JSON-RPC over the host's own socket, in the test's process.

No program is started for a question, and one that is not answered ends in time.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import aiohttp

from tests.lab.running import RunningLab

CALL_S: Final = 20.0


class NotAnswered(Exception):
    """A call without an answer: nobody knows what became of it."""


class Denied(Exception):
    """A call that was answered with an error; `code` is the first word of it."""

    def __init__(self, description: list[str]) -> None:
        super().__init__(" ".join(description))
        self.code = description[0] if description else ""


class Client:
    """One client at the console of one host."""

    def __init__(self, lab: RunningLab, host: str, within_s: float = CALL_S) -> None:
        self.host = host
        self._password = lab.lab.password
        self._path = str(lab.lab.directory / host / "run/poolnet/xapi.sock")
        self._within_s = within_s
        self._session = ""

    async def call(self, method: str, *params: Any) -> Any:
        """The result. Raises NotAnswered, Denied."""
        await self._log_in()
        try:
            return await self._post(method, self._session, *params)
        except (NotAnswered, Denied):
            self._session = ""
            raise

    async def records(self, *classes: str) -> dict[str, dict[str, dict[str, Any]]]:
        """All records of these classes, by class and reference. Raises NotAnswered, Denied."""
        await self._log_in()  # once for all
        found = await asyncio.gather(*(self.call(f"{name}.get_all_records") for name in classes))
        return dict(zip(classes, found, strict=True))

    async def _log_in(self) -> None:
        if not self._session:
            login = ("root", self._password, "1.0", "tests")
            self._session = str(await self._post("session.login_with_password", *login))

    async def _post(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        timeout = aiohttp.ClientTimeout(total=self._within_s)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(self._path), timeout=timeout
                ) as session,
                session.post("http://localhost/jsonrpc", json=body) as response,
            ):
                answer = json.loads(await response.read())
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise NotAnswered(f"{type(error).__name__} {error}") from error
        if answer.get("error") is not None:
            failure = answer["error"]
            if isinstance(failure, dict):
                failure = [failure.get("message", ""), *(failure.get("data") or ())]
            raise Denied([str(each) for each in failure])
        return answer["result"]
