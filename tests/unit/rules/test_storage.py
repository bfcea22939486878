"""SRs and PBDs: what is refused, in the order of the reference, and what the host is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from poolnet.hostnet.storage import (
    AttachStorage,
    CreateStorage,
    DeleteStorage,
    DetachStorage,
    LocalDirectory,
    MeasureStorage,
    NfsExport,
)
from poolnet.model.classes.message import Message
from poolnet.model.classes.pbd import PBD
from poolnet.model.classes.sr import SR
from poolnet.model.enums import StorageOperations
from poolnet.model.types import Ref
from poolnet.rules import pbd as pbd_rules
from poolnet.rules.storage_source import backend_failure, source_of
from tests.unit.rules.world import LOCAL, World, facts_with, refused

NFS: Mapping[str, str] = {"server": "192.0.2.9", "serverpath": "/export"}
UUID = "b2a7c4de-0000-4000-8000-000000000001"


def introduce(world: World, kind: str = "nfs", **fields: Any) -> Ref[SR]:
    record = {
        "uuid": "",
        "name_label": "store",
        "name_description": "",
        "content_type": "",
        "shared": False,
        "sm_config": {},
    }
    ref: Ref[SR] = world.call("SR.introduce", type=kind, **{**record, **fields})
    return ref


def connect(world: World, sr: Ref[SR], config: Mapping[str, str] = NFS, host: Any = LOCAL) -> Ref[PBD]:
    record = {"host": host, "SR": sr, "device_config": config, "other_config": {}}
    ref: Ref[PBD] = world.call("PBD.create", record=record)
    return ref


def create(world: World, kind: str = "nfs", config: Mapping[str, str] = NFS, **fields: Any) -> Ref[SR]:
    record = {
        "host": LOCAL,
        "physical_size": 0,
        "name_label": "store",
        "name_description": "",
        "content_type": "",
        "shared": False,
        "sm_config": {},
    }
    ref: Ref[SR] = world.call("SR.create", type=kind, device_config=config, **{**record, **fields})
    return ref


def acts(world: World) -> list[object]:
    """What hosts were asked to do since the last time."""
    found: list[object] = [action for _, action in world.ctx.storage_actions]
    world.ctx.storage_actions.clear()
    return found


def test_an_sr_that_is_introduced_is_a_record_without_sizes() -> None:
    world = World.new()
    row = world.txn.get(SR, introduce(world, "NFS", uuid=UUID, shared=True))
    assert (row.uuid, row.type, row.shared) == (UUID, "nfs", True)
    assert (row.physical_size, row.physical_utilisation, row.virtual_allocation) == (-1, -1, 0)
    assert set(row.allowed_operations) == {
        StorageOperations.SCAN,
        StorageOperations.FORGET,
        StorageOperations.PLUG,
        StorageOperations.UNPLUG,
        StorageOperations.UPDATE,
        StorageOperations.PBD_CREATE,
        StorageOperations.PBD_DESTROY,
    }
    with refused("SR_UUID_EXISTS", UUID):
        introduce(world, uuid=UUID)
    with refused("UUID_INVALID", "SR", "../etc"):
        introduce(world, uuid="../etc")
    assert acts(world) == []


def test_a_host_has_one_connection_to_an_sr() -> None:
    world = World.new()
    sr = introduce(world)
    pbd = connect(world, sr)
    row = world.txn.get(PBD, pbd)
    assert (row.host, row.SR, row.currently_attached, dict(row.device_config)) == (LOCAL, sr, False, NFS)
    with refused("PBD_EXISTS", sr, LOCAL, pbd):
        connect(world, sr)
    other = world.host()
    with refused("VALUE_NOT_SUPPORTED", "SRmaster", "true", "This key is for internal use only"):
        connect(world, sr, {**NFS, "SRmaster": "true"}, other)


def test_plug_and_unplug_ask_the_host_and_say_what_is_allowed() -> None:
    world = World.new()
    sr = introduce(world)
    uuid, pbd = world.txn.get(SR, sr).uuid, connect(world, sr)
    world.call("PBD.plug", self=pbd)
    export = NfsExport(server="192.0.2.9", path="/export", own_directory=True)
    assert acts(world) == [AttachStorage(sr=uuid, source=export)]
    assert world.txn.get(PBD, pbd).currently_attached
    assert StorageOperations.FORGET not in world.txn.get(SR, sr).allowed_operations
    for message in ("SR.forget", "SR.destroy"):
        with refused("SR_HAS_PBD", sr):
            world.call(message, sr=sr)
    with refused("OPERATION_NOT_ALLOWED", "PBD is currently attached"):
        world.call("PBD.destroy", self=pbd)
    world.call("SR.scan", sr=sr)
    assert acts(world) == [MeasureStorage(sr=uuid)]
    world.call("PBD.unplug", self=pbd)
    assert acts(world) == [DetachStorage(sr=uuid)]
    world.call("PBD.unplug", self=pbd)
    assert acts(world) == []  # nothing to do, and no error, as in the reference
    world.call("PBD.destroy", self=pbd)
    assert world.txn.count(PBD) == 0


def test_scan_needs_a_host_that_is_connected() -> None:
    world = World.new()
    sr = introduce(world)
    with refused("SR_HAS_NO_PBDS", sr):
        world.call("SR.scan", sr=sr)
    with refused("SR_HAS_NO_PBDS", sr):
        world.call("SR.destroy", sr=sr)
    connect(world, sr)
    with refused("SR_NOT_ATTACHED", sr):
        world.call("SR.scan", sr=sr)


def test_storage_that_is_not_shared_has_one_host() -> None:
    world = World.new()
    sr = introduce(world)
    mine, theirs = connect(world, sr), connect(world, sr, host=world.host())
    with refused("SR_HAS_MULTIPLE_PBDS", mine, theirs):
        world.call("SR.set_shared", sr=sr, value=False)
    world.call("PBD.plug", self=mine)
    with refused("SR_NOT_SHARABLE", sr, LOCAL):
        world.call("PBD.plug", self=theirs)
    world.call("SR.set_shared", sr=sr, value=True)
    world.call("PBD.plug", self=theirs)


def test_create_makes_connects_and_destroy_removes() -> None:
    world = World.new()
    sr = create(world, "file", {"location": "/srv/disks"})
    uuid, source = world.txn.get(SR, sr).uuid, LocalDirectory(path="/srv/disks")
    assert acts(world) == [CreateStorage(sr=uuid, source=source), AttachStorage(sr=uuid, source=source)]
    (pbd,) = world.txn.where(PBD, SR=sr)
    assert pbd.currently_attached
    world.call("PBD.unplug", self=pbd.ref)
    acts(world)
    world.txn.update(SR, sr, other_config={"indestructible": "true"})
    with refused("SR_INDESTRUCTIBLE", sr):
        world.call("SR.destroy", sr=sr)
    world.txn.update(SR, sr, other_config={})
    world.call("SR.destroy", sr=sr)
    assert acts(world) == [DeleteStorage(sr=uuid, source=source)]
    assert world.txn.count(SR) == world.txn.count(PBD) == 0


def test_shared_storage_is_connected_to_every_host() -> None:
    world = World.new()
    world.host()
    sr = create(world, shared=True)
    assert [type(act) for act in acts(world)] == [CreateStorage, AttachStorage, AttachStorage]
    assert len(list(world.txn.where(PBD, SR=sr))) == 2


def test_forget_leaves_the_storage_as_it_is() -> None:
    world = World.new()
    sr = introduce(world)
    connect(world, sr)
    world.call("SR.forget", sr=sr)
    assert world.txn.count(SR) == world.txn.count(PBD) == 0
    assert acts(world) == []


@pytest.mark.parametrize(
    ("kind", "config", "code"),
    [
        ("nfs", {}, "SR_BACKEND_FAILURE_102"),
        ("nfs", {"server": "a"}, "SR_BACKEND_FAILURE_101"),
        ("nfs", {"server": "-oexec", "serverpath": "/x"}, "SR_BACKEND_FAILURE_140"),
        ("nfs", {"server": "a b", "serverpath": "/x"}, "SR_BACKEND_FAILURE_140"),
        ("nfs", {"server": "a", "serverpath": "x"}, "SR_BACKEND_FAILURE_103"),
        ("nfs", {"server": "a", "serverpath": "/x/../y"}, "SR_BACKEND_FAILURE_103"),
        ("nfs", {"server": "a", "serverpath": "/x\ny"}, "SR_BACKEND_FAILURE_103"),
        ("nfs", {"server": "a", "serverpath": "/x", "nfsversion": "9"}, "SR_BACKEND_FAILURE_72"),
        ("nfs", {"server": "a", "serverpath": "/x", "options": "suid,dev"}, "SR_BACKEND_FAILURE_1"),
        ("iso", {}, "SR_BACKEND_FAILURE_94"),
        ("iso", {"location": "a", "type": "nfs_iso"}, "SR_BACKEND_FAILURE_225"),
        ("iso", {"location": "//a/share"}, "SR_BACKEND_FAILURE_222"),
        ("iso", {"location": "iso", "legacy_mode": "true"}, "SR_BACKEND_FAILURE_226"),
        ("file", {}, "SR_BACKEND_FAILURE_94"),
        ("file", {"location": "disks"}, "SR_BACKEND_FAILURE_61"),
        ("lvm", {}, "SR_UNKNOWN_DRIVER"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_before_a_host_is_asked(
    kind: str, config: Mapping[str, str], code: str
) -> None:
    world = World.new()
    with pytest.raises(Exception, match=rf"^{code}\["):
        create(world, kind, config)
    sr = introduce(world, kind)
    pbd = connect(world, sr, config)
    with pytest.raises(Exception, match=rf"^{code}\["):
        world.call("PBD.plug", self=pbd)
    assert acts(world) == []
    assert world.txn.count(SR) == 1


def test_the_keys_of_the_drivers_are_read() -> None:
    config = {"server": "[2001:db8::1]", "serverpath": "/a b/", "nfsversion": "4.1", "options": "-o ro, soft"}
    assert source_of("nfs", config, {"nosubdir": "true"}) == NfsExport(
        server="2001:db8::1", path="/a b/", version="4.1", options=("ro", "soft")
    )
    assert source_of("iso", {"location": "nas:/iso"}, {}) == NfsExport(server="nas", path="/iso")
    local = {"location": "/srv/iso", "legacy_mode": "true", "type": "nfs_iso"}
    assert source_of("iso", local, {}) == LocalDirectory(path="/srv/iso")


def test_what_a_host_cannot_do_has_the_number_of_the_reference() -> None:
    assert str(backend_failure("nfs", "mount", "no")) == (
        "SR_BACKEND_FAILURE_73[; NFS mount error [opterr=no]; ]"
    )
    assert backend_failure("iso", "unmount", "").code == "SR_BACKEND_FAILURE_223"
    assert backend_failure("file", "something new", "").code == "SR_BACKEND_FAILURE_47"


def test_a_host_that_was_started_anew_has_lost_its_connections() -> None:
    world = World.new()
    sr = introduce(world)
    pbd = connect(world, sr)
    assert pbd_rules.lost(world.txn, LOCAL, facts_with()) == ()
    world.call("PBD.plug", self=pbd)
    assert pbd_rules.lost(world.txn, LOCAL, facts_with()) == (pbd,)
    there = replace(facts_with(), storage=(world.txn.get(SR, sr).uuid,))
    assert pbd_rules.lost(world.txn, LOCAL, there) == ()
    pbd_rules.give_up(world.ctx, self=pbd, reason="SR_BACKEND_FAILURE_73[]")
    assert not world.txn.get(PBD, pbd).currently_attached
    (alert,) = world.txn.all(Message)
    assert (alert.name, alert.body) == ("PBD_PLUG_FAILED_ON_SERVER_START", "SR_BACKEND_FAILURE_73[]")
