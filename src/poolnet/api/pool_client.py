"""How does a joining host ask the coordinator of a pool, before the two trust each other? By the XenAPI, as any client.

The coordinator's certificate is its own and nobody vouches for it, as with every client of a new server; user name and
password are the proof that this is the pool that was meant. Nothing that comes back is believed beyond its type.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from poolnet.model import errors
from poolnet.model.failure import Failure
from poolnet.rules.join import PoolCertificate, PoolHost, Target

TIMEOUT_S: Final = 30.0
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
PARAMS_MAX: Final = 16

Records = Mapping[str, Mapping[str, Any]]


class PoolClient:
    """One session at the coordinator of another pool.

    Args:
        address: The coordinator.
        port: The port of its API server.
        tls: Whom to believe; without it, whoever answers.
        session: A session that there is, and that stays.
    """

    def __init__(
        self, address: str, port: int, *, tls: ssl.SSLContext | None = None, session: str = ""
    ) -> None:
        self._tls = tls
        self._given = bool(session)
        host = f"[{address}]" if ":" in address else address
        self._url = f"https://{host}:{port}/jsonrpc"
        self._http: aiohttp.ClientSession | None = None
        self._session = session

    async def __aenter__(self) -> Self:
        """Begins; nothing is sent yet."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(ssl=self._tls or False)
        self._http = aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Logs out, if it can."""
        try:
            if self._session and not self._given:
                await self.call("session.logout")
        except Failure:
            pass
        finally:
            if self._http is not None:
                await self._http.close()

    async def login(self, user: str, password: str) -> None:
        """Logs in. Raises Failure: what the coordinator answers, or that it cannot be reached."""
        answer = await self._post("session.login_with_password", [user, password, "1.1", "poolnet-join"])
        self._session = answer if isinstance(answer, str) else ""

    async def call(self, method: str, *params: Any) -> Any:
        """Calls a message with the session. Raises Failure."""
        return await self._post(method, [self._session, *params])

    async def target(self) -> Target:
        """What there is to know of the pool before joining it. Raises Failure."""
        names = ("pool", "host", "PIF", "network", "Certificate")
        pools, hosts, pifs, networks, certificates = [
            await self.call(f"{name}.get_all_records") for name in names
        ]
        try:
            pool = next(iter(pools.values()))
            coordinator = pool["master"]
            mine = [pif for pif in pifs.values() if pif["host"] == coordinator and pif["management"]]
            management = mine[0] if mine else {"VLAN": "-1", "primary_address_type": "IPv4"}
            return Target(
                coordinator=msgspec.convert(hosts[coordinator], PoolHost, strict=False),
                hosts=tuple(str(row["uuid"]) for row in hosts.values()),
                ha_enabled=bool(pool["ha_enabled"]),
                management_vlan=int(management["VLAN"]),
                primary_address_type=str(management["primary_address_type"]),
                purposes=tuple(str(p) for row in networks.values() for p in row["purpose"]),
                certificates=tuple(
                    msgspec.convert({**row, "ref": ref}, PoolCertificate) for ref, row in certificates.items()
                ),
            )
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            StopIteration,
            msgspec.MsgspecError,
        ) as error:
            raise errors.joining_host_service_failed() from error

    async def _post(self, method: str, params: list[Any]) -> Any:
        if self._http is None:
            raise TypeError("the client is not open")
        body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
        try:
            async with self._http.post(
                self._url, data=body, headers={"Content-Type": "application/json"}
            ) as response:
                if response.status != 200:
                    raise errors.joining_host_service_failed()
                content = await _bounded(response.content)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise errors.joining_host_connection_failed() from error
        return _result(content)


async def _bounded(stream: aiohttp.StreamReader) -> bytes:
    content = bytearray()
    while chunk := await stream.readany():
        content += chunk
        if len(content) > ANSWER_BYTES_MAX:
            raise errors.joining_host_service_failed()
    return bytes(content)


def _result(content: bytes) -> Any:
    """The result of a call. Raises Failure: the one that the answer names, or that it makes no sense."""
    try:
        answer = msgspec.json.decode(content)
        failure = answer.get("error")
        if failure is None:
            return answer["result"]
        code, params = str(failure["message"]), [str(each) for each in failure.get("data", ())]
    except (KeyError, TypeError, AttributeError, msgspec.MsgspecError) as error:
        raise errors.joining_host_service_failed() from error
    if code not in errors.ERRORS:
        raise errors.internal_error(code[:256])
    raise Failure(code, *params[:PARAMS_MAX])
