"""Calls about storage: all of it or nothing, beside the rollouts, and again after a start."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poolnet.hostnet.storage import (
    AttachStorage,
    CreateStorage,
    DeleteStorage,
    DetachStorage,
    StorageAction,
    StorageFault,
)
from poolnet.model.classes.message import Message
from poolnet.model.classes.pbd import PBD
from poolnet.model.classes.sr import SR
from poolnet.model.failure import Failure
from poolnet.pool import storage
from poolnet.pool.coordinator import RuleCall
from poolnet.rules.catalog import RULES
from poolnet.rules.context import Session
from tests.in_process import BrokenDisk, InProcess, with_server


async def call(server: InProcess, method: str, **arguments: Any) -> Any:
    return await server.coordinator.run(
        RuleCall(method=method, rule=RULES[method], arguments=arguments, session=Session())
    )


async def create(server: InProcess) -> Any:
    return await call(
        server,
        "SR.create",
        host=server.host.host,
        device_config={"server": "nas", "serverpath": "/export"},
        physical_size=0,
        name_label="store",
        name_description="",
        type="nfs",
        content_type="",
        shared=False,
        sm_config={},
    )


def kinds(server: InProcess) -> list[type]:
    """What the host did since the last time."""
    found = [type(act) for act in server.host.storage_acts]
    server.host.storage_acts.clear()
    return found


def refusing(kind: type, fault: StorageFault) -> Any:
    def refuse(action: StorageAction) -> StorageFault | None:
        return fault if isinstance(action, kind) else None

    return refuse


def test_a_new_sr_has_the_size_that_the_host_measured(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        row = server.database.view.get(SR, await create(server))
        assert (row.physical_size, row.physical_utilisation) == (1000, 10)
        assert kinds(server) == [CreateStorage, AttachStorage]
        assert server.host.switches == 1  # that of the start: the network has no part in it

    with_server(tmp_path, body)


def test_an_sr_that_cannot_be_connected_leaves_nothing(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        server.host.refuse_storage = refusing(AttachStorage, StorageFault.MOUNT)
        with pytest.raises(Failure, match=r"^SR_BACKEND_FAILURE_73\["):
            await create(server)
        assert kinds(server) == [CreateStorage, DeleteStorage]
        assert server.database.view.count(SR) == server.database.view.count(PBD) == 0

    with_server(tmp_path, body)


def test_what_cannot_be_written_down_is_taken_back(tmp_path: Path) -> None:
    engine = BrokenDisk()

    async def body(server: InProcess) -> None:
        engine.broken = True
        with pytest.raises(Failure, match=r"^INTERNAL_ERROR\["):
            await create(server)
        engine.broken = False
        assert kinds(server) == [CreateStorage, AttachStorage, DetachStorage, DeleteStorage]
        assert not server.host.mounted

    with_server(tmp_path, body, engine)


def test_storage_in_use_stays_plugged(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        sr = await create(server)
        (pbd,) = server.database.view.where(PBD, SR=sr)
        server.host.refuse_storage = refusing(DetachStorage, StorageFault.UNMOUNT)
        with pytest.raises(Failure, match=r"^SR_BACKEND_FAILURE_74\["):
            await call(server, "PBD.unplug", self=pbd.ref)
        assert server.database.view.get(PBD, pbd.ref).currently_attached

    with_server(tmp_path, body)


def test_a_silent_server_holds_up_nobody_else(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        at, go = asyncio.Event(), asyncio.Event()
        carry_out = server.host.storage

        async def slow(host: Any, action: StorageAction) -> Any:
            at.set()
            await go.wait()
            return await carry_out(host, action)

        server.host.storage = slow  # type: ignore[method-assign]
        creating = asyncio.create_task(create(server))
        await at.wait()
        record = {
            "name_label": "net",
            "name_description": "",
            "MTU": 1500,
            "other_config": {},
            "bridge": "",
            "managed": True,
            "tags": (),
        }
        await call(server, "network.create", record=record)
        assert not creating.done()
        go.set()
        assert server.database.view.exists(SR, await creating)

    with_server(tmp_path, body)


def test_after_a_start_the_host_has_what_the_database_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "REPLUG_AFTER_S", (0.0, 0.0))

    async def body(server: InProcess) -> None:
        sr = await create(server)
        (pbd,) = server.database.view.where(PBD, SR=sr)
        kinds(server)
        server.host.mounted.clear()
        stray = "b2a7c4de-0000-4000-8000-000000000001"
        facts = replace(server.host.reported, storage=(stray,))
        await server.coordinator.connect_storage(server.host.host, facts)
        assert kinds(server) == [DetachStorage, AttachStorage]
        server.host.refuse_storage = refusing(AttachStorage, StorageFault.NO_SERVICE)
        await server.coordinator.connect_storage(server.host.host, server.host.reported)
        assert not server.database.view.get(PBD, pbd.ref).currently_attached
        (alert,) = server.database.view.all(Message)
        assert alert.body.startswith("SR_BACKEND_FAILURE_108[")

    with_server(tmp_path, body)
