"""What does one noisy client do to another's `VIF.get_record`?

The noise is unbounded logins, 500 event calls that wait for changes (with 20 changes a second), and 2,000 calls a second,
all from one address. The floor is the same client's calls without the noise, just before.

Server and clients are on this machine: with fewer than three free processors, a part of what is measured is that they wait
for one. How much of it is neither the call nor the noise at the API shows a second quiet client, whose calls the same server
answers beside the noise with bytes that it has.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from bench.figure import Figure, percentile
from bench.server import fill, serving
from poolnet.api.collector import settle
from poolnet.api.tls import ensure_identities, server_context
from poolnet.model.classes.network import Network

VIFS: Final = 1000
QUIET_S: Final = 10.0
NOISE_S: Final = 30.0
EVERY_S: Final = 0.005
WANTED: Final = 5.0
FIXED: Final = "bench.fixed"
SESSIONS: Final = 16  # that the noisy client has, so that the bounds of one session do not tame it
NOISE: Final = {"callers": 64, "calls_per_s": 2000, "logins": 16, "polls": 500}


async def figures() -> Sequence[Figure]:
    """Measures in quiet, then in noise."""
    async with serving(rates=True) as served:
        vifs = await fill(served, VIFS)
        now = datetime.now(UTC)
        identities = ensure_identities(
            served.root / "tls", names=("localhost",), addresses=("127.0.0.1",), now=now
        )
        port = served.server.listen_tcp("127.0.0.1", 0, tls=server_context(identities))
        network = next(
            row.ref for row in served.parts.database.view.all(Network) if row.name_label == "bench"
        )
        served.fixed[FIXED] = await served.answer_bytes("VIF.get_record", vifs[0])
        common = {"port": port, "session": served.session, "vif": vifs[0], "network": network}
        own = await served.parts.sessions.login_with_password("root", "", "quiet", True)
        asking = {
            **common,
            "do": "quiet",
            "method": "VIF.get_record",
            "source": "127.0.0.1",
            "session": own,
            "every_s": EVERY_S,
        }
        settle()  # as the server does when it has loaded its database
        quiet = await _client({**asking, "seconds": QUIET_S})
        sessions = [
            await served.parts.sessions.login_with_password("root", "", f"noise{at}", True)
            for at in range(SESSIONS)
        ]
        noise = {
            **common,
            **NOISE,
            "do": "noise",
            "sessions": sessions,
            "source": "127.0.0.2",
            "password": "secret",
            "seconds": NOISE_S,
        }
        fixed = {**asking, "method": FIXED, "source": "127.0.0.3", "every_s": 4 * EVERY_S}
        noisy, from_memory, seen = await asyncio.gather(
            _client({**asking, "seconds": NOISE_S}), _client({**fixed, "seconds": NOISE_S}), _client(noise)
        )
    _tell(seen)
    return [
        _figure(noisy, quiet, "the same without the noise, p99", WANTED),
        _figure(noisy, from_memory, "as many bytes by the same server beside the noise, p99", None),
    ]


def _figure(noisy: Sequence[float], floors: Sequence[float], name: str, wanted: float | None) -> Figure:
    floor, value = percentile(floors, 99), percentile(noisy, 99)
    return Figure(
        name="VIF.get_record beside a noisy client, p99",
        value=value * 1e3,
        unit="ms",
        floor=floor * 1e3,
        floor_name=name,
        ratio=value / floor,
        samples=len(noisy),
        wanted=wanted,
    )


def _tell(seen: Mapping[str, int]) -> None:
    """What became of the noise, so that nobody believes in silence."""
    sys.stderr.write(", ".join(f"{what} {count}" for what, count in sorted(seen.items())) + "\n")


async def _client(work: Mapping[str, Any]) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.noisy_client", stdin=PIPE, stdout=PIPE
    )
    output, _ = await process.communicate(json.dumps(work).encode())
    if process.returncode != 0:
        raise RuntimeError(f"the client ended with {process.returncode}")
    return json.loads(output)
