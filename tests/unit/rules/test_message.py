from __future__ import annotations

from datetime import timedelta

import pytest

from poolnet.model.classes.message import Message
from poolnet.model.enums import Cls
from poolnet.model.types import Ref
from poolnet.rules import message
from tests.unit.rules.world import NOW, World, refused

HOST_UUID = "11111111-1111-1111-1111-111111111111"


def alert(w: World, name: str = "N", priority: int = 3) -> Ref[Message]:
    ref: Ref[Message] = w.call(
        "message.create", name=name, priority=priority, cls=Cls.HOST, obj_uuid=HOST_UUID, body="b"
    )
    return ref


def test_an_alert_is_found_every_way_until_it_is_destroyed() -> None:
    w = World.new()
    ref = alert(w)
    row = w.call("message.get_record", self=ref)
    assert (row.name, row.priority, row.cls, row.obj_uuid, row.body) == ("N", 3, Cls.HOST, HOST_UUID, "b")
    assert row.timestamp == NOW
    earlier = NOW - timedelta(seconds=1)
    assert w.call("message.get_all") == (ref,)
    assert w.call("message.get_by_uuid", uuid=row.uuid) == ref
    all_of_them = {ref: row}
    assert w.call("message.get_all_records") == all_of_them
    assert w.call("message.get_all_records_where", expr='field "name" = "N"') == all_of_them
    assert w.call("message.get_all_records_where", expr='field "name" = "M"') == {}
    assert w.call("message.get_since", since=earlier) == all_of_them
    assert w.call("message.get_since", since=NOW) == {}
    assert w.call("message.get", cls=Cls.HOST, obj_uuid=HOST_UUID, since=earlier) == all_of_them
    assert w.call("message.get", cls=Cls.HOST, obj_uuid=HOST_UUID, since=NOW) == {}
    w.call("message.destroy", self=ref)
    assert w.call("message.get_all") == ()
    with refused("HANDLE_INVALID", "message", ref):
        w.call("message.destroy", self=ref)
    with refused("HANDLE_INVALID", "message", ref):
        w.call("message.get_record", self=ref)
    with refused("UUID_INVALID", "message", row.uuid):
        w.call("message.get_by_uuid", uuid=row.uuid)


@pytest.mark.parametrize("cls", list(Cls))
def test_an_alert_is_about_something_that_is_there(cls: Cls) -> None:
    w = World.new()
    uuid = "22222222-2222-2222-2222-222222222222"
    with refused("UUID_INVALID", cls.value, uuid):
        w.call("message.create", name="N", priority=1, cls=cls, obj_uuid=uuid, body="")
    with refused("UUID_INVALID", cls.value, uuid):
        w.call("message.get", cls=cls, obj_uuid=uuid, since=NOW)


def test_several_alerts_go_together_or_not_at_all() -> None:
    w = World.new()
    one, other, third = alert(w), alert(w), alert(w)
    missing: Ref[Message] = Ref("OpaqueRef:none")
    with refused("HANDLE_INVALID", "message", missing):
        w.call("message.destroy_many", messages=(one, missing))
    assert w.call("message.get_all") == (one, other, third)
    w.call("message.destroy_many", messages=(one, third, one))
    assert w.call("message.get_all") == (other,)


def test_alerts_go_by_time_and_priority() -> None:
    w = World.new()
    old = alert(w, priority=1)
    w.ctx.now = NOW + timedelta(seconds=60)
    urgent, new = alert(w, priority=1), alert(w, priority=5)
    w.call("message.destroy_all", filters={"priority": "1", "after": "20260102T03:04:30Z"})
    assert w.call("message.get_all") == (old, new)
    assert not w.txn.exists(Message, urgent)
    w.call("message.destroy_all", filters={"before": "20260102T03:04:30Z"})
    assert w.call("message.get_all") == (new,)
    for key, value in (("before", "yesterday"), ("after", ""), ("priority", "high")):
        with refused("INVALID_VALUE", key, value):
            w.call("message.destroy_all", filters={key: value})
    with refused("INVALID_VALUE", "filters", "name"):
        w.call("message.destroy_all", filters={"name": "N"})
    w.call("message.destroy_all", filters={})
    assert w.call("message.get_all") == ()


def test_the_oldest_alerts_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "ALERTS_MAX", 3)
    w = World.new()
    alerts = [alert(w, str(number)) for number in range(5)]
    assert w.call("message.get_all") == tuple(alerts[2:])
