"""Rows for the database's tests: each with a fresh reference and uuid."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeVar

from poolnet.db.database import Database
from poolnet.db.txn import Txn
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.session import Session
from poolnet.model.classes.task import Task
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.types import NULL, Ref, Row

R = TypeVar("R", bound=Row)


def a_ref() -> Ref[R]:
    return Ref(f"OpaqueRef:{uuid.uuid4()}")


def a_uuid() -> str:
    return str(uuid.uuid4())


def a_network(name: str = "net") -> Network:
    return Network(ref=a_ref(), uuid=a_uuid(), name_label=name)


def a_vm(name: str = "vm") -> VM:
    return VM(ref=a_ref(), uuid=a_uuid(), name_label=name)


def a_host(name: str = "host") -> Host:
    return Host(ref=a_ref(), uuid=a_uuid(), name_label=name)


def a_vif(network: Ref[Network] = NULL, vm: Ref[VM] = NULL, device: str = "0") -> VIF:
    return VIF(ref=a_ref(), uuid=a_uuid(), network=network, VM=vm, device=device)


def a_pif(network: Ref[Network] = NULL, host: Ref[Host] = NULL, device: str = "eth0") -> PIF:
    return PIF(ref=a_ref(), uuid=a_uuid(), network=network, host=host, device=device)


def a_task(name: str = "task") -> Task:
    return Task(ref=a_ref(), uuid=a_uuid(), name_label=name)


def a_session() -> Session:
    return Session(ref=a_ref(), uuid=a_uuid())


def create(database: Database, *rows: Row) -> int:
    """Commits new rows."""
    txn = database.begin()
    for row in rows:
        txn.create(row)
    return database.commit_now(txn.changes())


def destroy(database: Database, *rows: Row) -> int:
    """Commits the end of rows."""
    txn = database.begin()
    for row in rows:
        txn.destroy(type(row), row.ref)
    return database.commit_now(txn.changes())


def commit(database: Database, body: Callable[[Txn], object]) -> int:
    """Runs a function on a fresh transaction and commits it."""
    txn = database.begin()
    body(txn)
    return database.commit_now(txn.changes())
