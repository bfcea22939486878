"""Where do hosts differ from what the database says? poolnet's own message of the class host; the hosts are asked.

The answer is a JSON text, for programs and for `xe` alike: of each field that is not the same everywhere what the database
intends, what the host's daemon has applied and keeps, and what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from poolnet.api.dispatch import Call, Own, Result
from poolnet.api.locks import AskedHosts
from poolnet.db.database import Database
from poolnet.hostnet import protocol
from poolnet.hostnet.derive import derive
from poolnet.hostnet.drift import compare
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref
from poolnet.pool.hostlink import HostGone, HostRefused

ASK_TIMEOUT_S: Final = 30.0


def drift_messages(database: Database, hosts: AskedHosts) -> Mapping[str, Own]:
    """The message, by its full name."""

    async def one(host: Ref[Host]) -> dict[str, Any]:
        view = database.view
        row = view.get(Host, host)
        about = {"host": row.uuid, "name-label": row.name_label}
        try:
            seen = await hosts.ask(host, protocol.ReadDrift(), protocol.Drift, ASK_TIMEOUT_S)
        except (HostGone, HostRefused) as error:
            return {**about, "in-step": None, "reason": str(error), "fields": []}
        intended = derive(database.view, host)
        rows = compare(intended, seen.applied, seen.actual)
        return {
            **about,
            "policy": intended.drift.value,
            "in-step": not rows,
            "fields": [
                {
                    "subject": row.subject,
                    "field": row.field,
                    "intended": row.intended,
                    "applied": row.applied,
                    "actual": row.actual,
                }
                for row in rows
            ],
        }

    async def explain(call: Call) -> Result:
        """Compares hosts (none: all) with the database; a host that cannot be asked says why.

        Raises:
            HANDLE_INVALID: There is no such host.
        """
        view = database.view
        chosen = tuple(call.arguments["hosts"]) or tuple(view.refs(Host))
        for host in chosen:
            view.get(Host, host)
        answer = await asyncio.gather(*(one(host) for host in chosen))
        return msgspec.json.encode(answer).decode()

    return {"host.explain_network_drift": explain}
