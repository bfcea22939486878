"""An API server in this process, with all of poolnet but the host daemon, for the benchmarks that need no host.

Beside the API it answers what it was given as fixed bytes, under names that begin with "bench.": the floor of a call is
the same server sending as much from memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4
from xml.sax.saxutils import escape

from tests.in_process import InProcess, in_process

from poolnet.api.answer import Answer, Encoded, Origin, Success
from poolnet.api.budgets import Budgets
from poolnet.api.http import HttpServer
from poolnet.api.logins import REFUSAL_DELAY_S
from poolnet.api.wire import Wire
from poolnet.db.engine_sqlite import SqliteEngine
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VifOperations
from poolnet.model.types import Ref, StringT

VIFS_PER_VM = 4
_HERE = Origin(local_root=True)


@dataclass
class Served:
    """A running server. `heard` is called with the name of every method, before it is carried out."""

    parts: InProcess
    root: Path
    port: int = 0
    session: str = ""
    server: HttpServer = field(init=False)
    fixed: dict[str, bytes] = field(default_factory=dict)
    heard: Callable[[str], None] = lambda _: None

    async def dispatch(self, method: str, params: Sequence[Wire], origin: Origin) -> Answer:
        """Answers what is fixed, and passes on all else."""
        self.heard(method)
        block = self.fixed.get(method)
        if block is not None:
            return Success(StringT(), Encoded(lambda _: (block,)))
        return await self.parts.dispatcher.dispatch(method, params, origin)

    def body(self, method: str, *params: str) -> str:
        """The XML-RPC body of a call in this server's session."""
        return call_body(method, self.session, *params)

    async def answer_bytes(self, method: str, *params: str) -> bytes:
        """The value that a call answers, as it is sent."""
        from poolnet.api.answer import Codec
        from poolnet.api.fragments import encode_value

        answer = await self.parts.dispatcher.dispatch(method, [self.session, *params], _HERE)
        assert isinstance(answer, Success), answer  # noqa: S101 - for the type checker; nothing from outside is asserted
        if isinstance(answer.value, Encoded):
            return b"".join(answer.value.pieces(Codec.XML))
        return encode_value(Codec.XML, answer.wire_type, answer.value)

    async def alternate(self, *bodies: str, rounds: int, calls: int = 1) -> list[list[float]]:
        """Lets a client process post the bodies in turn; the seconds of every call, by body."""
        work = {"do": "alternate", "port": self.port, "bodies": bodies, "rounds": rounds, "calls": calls}
        taken: list[list[float]] = await client_process(work)
        return taken


@asynccontextmanager
async def serving(*, rates: bool = False) -> AsyncIterator[Served]:
    """A server on a port of its own and on the Unix socket below `root`, with its database in sqlite.

    With `rates` each client has no more than its budget of calls.
    """
    with tempfile.TemporaryDirectory(prefix="poolnet-bench-") as directory:
        root = Path(directory)
        (root / "run/poolnet").mkdir(parents=True)
        async with in_process(
            root,
            SqliteEngine(root / "pool.db"),
            refusal_delay_s=REFUSAL_DELAY_S,
            budgets=Budgets(rates=rates),
        ) as parts:
            served = Served(parts, root)
            server = served.server = HttpServer(served, parts.run_cli, budgets=parts.budgets)
            try:
                served.port = server.listen_tcp("127.0.0.1", 0)
                server.listen_unix(root / "run/poolnet/xapi.sock", mode=0o600)
                served.session = await parts.sessions.login_with_password("root", "", "bench", True)
                yield served
            finally:
                await server.close()


async def fill(served: Served, vifs: int) -> list[Ref[VIF]]:
    """Puts that many VIFs of halted VMs into the database; their references."""
    txn = served.parts.database.begin()
    network = Network(ref=_new_ref(), uuid=str(uuid4()), name_label="bench", bridge="xapi0", MTU=1500)
    txn.create(network)
    refs: list[Ref[VIF]] = []
    for number in range(vifs):
        if number % VIFS_PER_VM == 0:
            vm = VM(ref=_new_ref(), uuid=str(uuid4()), name_label=f"vm{number // VIFS_PER_VM}")
            txn.create(vm)
        vif = VIF(
            ref=_new_ref(),
            uuid=str(uuid4()),
            device=str(number % VIFS_PER_VM),
            network=network.ref,
            VM=vm.ref,
            MAC=f"02:00:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
            MTU=1500,
            allowed_operations=(VifOperations.ATTACH,),
            ipv4_allowed=(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",),
        )
        refs.append(txn.create(vif))
    await served.parts.database.commit(txn.changes())
    return refs


Param: TypeAlias = "str | Mapping[str, Param]"


def call_body(method: str, *params: Param) -> str:
    """An XML-RPC body; parameters are texts, or records of texts."""
    values = "".join(f"<param><value>{_value(param)}</value></param>" for param in params)
    return f"<methodCall><methodName>{method}</methodName><params>{values}</params></methodCall>"


def _value(param: Param) -> str:
    if isinstance(param, str):
        return escape(param)
    members = (
        f"<member><name>{escape(name)}</name><value>{_value(value)}</value></member>"
        for name, value in param.items()
    )
    return f"<struct>{''.join(members)}</struct>"


async def client_process(work: dict[str, Any]) -> Any:
    """Runs `bench.client` and gives what it measured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.client", stdin=PIPE, stdout=PIPE
    )
    output, _ = await process.communicate(json.dumps(work).encode())
    if process.returncode != 0:
        raise RuntimeError(f"the client ended with {process.returncode}")
    return json.loads(output)


def _new_ref() -> Ref[Any]:
    return Ref(f"OpaqueRef:{uuid4()}")
