"""What somebody without a session gets: logins, and nothing else, over every message that the server carries out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from poolnet.api.answer import Refusal
from poolnet.api.surface import implemented
from poolnet.model.registry import ENUMS, MESSAGES
from poolnet.model.types import (
    BoolT,
    DateTimeT,
    EnumT,
    FloatT,
    Int32T,
    IntT,
    MapT,
    OptionT,
    RecordT,
    SetT,
    WireType,
)
from tests.in_process import InProcess, with_server
from tests.unit.api.test_dispatch import call

PUBLIC = {
    "session.login_with_password",
    "session.slave_local_login_with_password",
    "session.slave_login",
    "session.slave_local_login",
}


def sample(wire_type: WireType) -> Any:
    """A value of the type, as it comes over the wire."""
    match wire_type:
        case BoolT():
            return False
        case IntT() | Int32T():
            return "1"
        case FloatT():
            return 1.0
        case DateTimeT():
            return "20260101T00:00:00Z"
        case EnumT(name):
            return next(iter(ENUMS[name])).value
        case SetT():
            return []
        case MapT() | RecordT():
            return {}
        case OptionT():
            return []
        case _:
            return "x"


def test_only_logins_need_no_session() -> None:
    served = {name for name, message in MESSAGES.items() if implemented(message)}
    assert {name for name in served if not MESSAGES[name].session_arg} == PUBLIC


def test_no_message_does_anything_for_a_stranger(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        before = server.database.feed.number
        answers: dict[str, int] = {}
        for name, message in MESSAGES.items():
            if name in PUBLIC:
                continue
            params = [sample(param.wire_type) for param in message.params]
            answer = await call(server, name, "OpaqueRef:guessed", *params)
            assert isinstance(answer, Refusal), name
            answers[answer.code] = answers.get(answer.code, 0) + 1
        # records that lack fields are refused before anybody looks who asks
        assert answers["SESSION_INVALID"] > 0.97 * len(MESSAGES), answers
        assert set(answers) <= {"SESSION_INVALID", "FIELD_TYPE_ERROR", "Fault", "INTERNAL_ERROR"}, answers
        assert server.database.feed.number == before
        for method in ("system.listMethods", "system.isAlive:x"):
            assert not isinstance(await call(server, method), Refusal)

    with_server(tmp_path, body)
