"""kill -9 at any instant loses no acknowledged commit and leaves no half one (500 instants).

A child works on a database with several workers at once, so that commits share appends. The state after so many steps
of a worker is known (`after`), and so is what the parent must find: that of the steps acknowledged, or of one more,
whose acknowledgement was on its way.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import struct
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from poolnet.db.database import Database
from poolnet.db.engine_sqlite import SqliteEngine
from poolnet.db.txn import Txn, View
from poolnet.model.classes.network import Network
from poolnet.model.classes.task import Task
from poolnet.model.classes.vif import VIF
from poolnet.model.types import Ref

CRASHES: Final = 500
WORKERS: Final = 4
LIVES: Final = 4
"""Steps after which a worker destroys what it made."""

VIFS: Final = 3
LONGEST_S: Final = 0.06
OPENS_WITHIN_S: Final = 60.0
ACK: Final = struct.Struct("=BIQ")

Fields = tuple[Any, ...]


def network_ref(worker: int, step: int) -> Ref[Network]:
    return Ref(f"OpaqueRef:network-{worker}-{step}")


def vif_ref(worker: int, step: int, number: int) -> Ref[VIF]:
    return Ref(f"OpaqueRef:vif-{worker}-{step}-{number}")


def text(step: int) -> str:
    return f"{step}:" + "x" * (step * 37 % 3000)


def take_step(txn: Txn, worker: int, step: int) -> None:
    """Makes a network with VIFs, changes those of the step before, destroys old ones: all in one transaction."""
    network = txn.create(
        Network(ref=network_ref(worker, step), uuid=f"n-{worker}-{step}", name_label=text(step))
    )
    for number in range(VIFS):
        ref = vif_ref(worker, step, number)
        txn.create(
            VIF(ref=ref, uuid=ref, network=network, device=str(number), other_config={"step": text(step)})
        )
    if step >= 1:
        txn.update(Network, network_ref(worker, step - 1), name_label=text(step))
        for number in range(VIFS):
            txn.update(VIF, vif_ref(worker, step - 1, number), other_config={"step": text(step)})
    if step >= LIVES:
        txn.destroy(Network, network_ref(worker, step - LIVES))
        for number in range(VIFS):
            txn.destroy(VIF, vif_ref(worker, step - LIVES, number))


def after(worker: int, steps: int) -> Mapping[str, Fields]:
    """All rows of a worker after so many steps."""
    rows: dict[str, Fields] = {}
    for step in range(max(0, steps - LIVES), steps):
        changed = text(min(step + 1, steps - 1))
        vifs = tuple(vif_ref(worker, step, number) for number in range(VIFS))
        rows[network_ref(worker, step)] = (f"n-{worker}-{step}", changed, frozenset(vifs))
        for number, ref in enumerate(vifs):
            rows[ref] = (ref, network_ref(worker, step), str(number), {"step": changed})
    return rows


def found(view: View) -> Mapping[str, Fields]:
    rows: dict[str, Fields] = {}
    for network in view.all(Network):
        rows[network.ref] = (network.uuid, network.name_label, frozenset(network.VIFs))
    for vif in view.all(VIF):
        rows[vif.ref] = (vif.uuid, vif.network, vif.device, vif.other_config)
    return rows


async def work(database: Database, worker: int, first: int, acks: int) -> NoReturn:
    step = first
    while True:
        txn = database.begin()
        take_step(txn, worker, step)
        number = await database.commit(txn.changes())
        os.write(acks, ACK.pack(worker, step, number))
        txn = database.begin()
        txn.create(Task(ref=Ref(f"OpaqueRef:task-{worker}-{step}"), uuid=f"t-{worker}-{step}"))
        await database.commit(txn.changes())
        step += 1


async def work_all(database: Database, steps: Mapping[int, int], acks: int) -> None:
    await asyncio.gather(*(work(database, worker, first, acks) for worker, first in steps.items()))


def run_child(path: Path, steps: Mapping[int, int], acks: int) -> NoReturn:
    try:
        asyncio.run(work_all(Database.open(SqliteEngine(path)), steps, acks))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def crash(
    path: Path, steps: Mapping[int, int], seconds: float, *, at_work: bool
) -> list[tuple[int, int, int]]:
    """Lets a child work for so long, kills it, and gives what it acknowledged: worker, step, commit number.

    `at_work` counts the time from its first acknowledgement, else it may be killed while it opens the database.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        run_child(path, steps, writing)
    os.close(writing)
    received = b""
    with os.fdopen(reading, "rb", buffering=0) as acks:
        if at_work:
            select.select([acks], [], [], OPENS_WITHIN_S)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and select.select([acks], [], [], left)[0]:
            piece = acks.read(65536)
            if not piece:
                break
            received += piece
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        while piece := acks.read(65536):
            received += piece
    assert os.WIFSIGNALED(status), "the child ended by itself"
    return list(ACK.iter_unpack(received))


@pytest.mark.timeout(300)
def test_kill_9_loses_no_acknowledged_commit_and_leaves_no_half_one(tmp_path: Path) -> None:
    path = tmp_path / "pool.db"
    chance = random.Random(500)
    steps = dict.fromkeys(range(WORKERS), 0)
    acknowledged = in_doubt = last_number = 0
    for crashes in range(CRASHES):
        for worker, step, number in crash(
            path, steps, chance.uniform(0, LONGEST_S), at_work=crashes % 2 == 1
        ):
            assert step == steps[worker]
            steps[worker] += 1
            acknowledged += 1
            last_number = max(last_number, number)
        database = Database.open(SqliteEngine(path))
        rows = dict(found(database.view))
        for worker, done in steps.items():
            mine = {ref: fields for ref, fields in rows.items() if ref.split("-")[1] == str(worker)}
            if mine != after(worker, done):
                assert mine == after(worker, done + 1), f"crash {crashes}: worker {worker} after {done} steps"
                steps[worker] += 1
                in_doubt += 1
            rows = {ref: fields for ref, fields in rows.items() if ref not in mine}
        assert not rows
        assert database.view.count(Task) == 0
        assert database.feed.number >= last_number
        last_number = database.feed.number
        database.close()
    assert acknowledged >= CRASHES // 2, "the children must get some work done"
    assert in_doubt < acknowledged
    print(f"{CRASHES} crashes, {acknowledged} commits acknowledged, {in_doubt} in doubt")
