"""What is logged: one plain line an event, and no secret, whatever goes wrong."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog

from poolnet.api.answer import Origin, Refusal, Success
from poolnet.api.logs import configure_logs
from poolnet.model.classes.task import Task
from tests.in_process import InProcess, with_server

REMOTE = Origin(local_root=False)
WRONG, RIGHT, NEW, POOL = "wr0ng-horse", "secret", "new-b4ttery", "p00l-secret"


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """As the journal gets them."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    stream = StringIO()
    configure_logs(stream)
    yield stream
    structlog.reset_defaults()


def test_an_event_is_one_line_whatever_it_says(logs: StringIO) -> None:
    log = structlog.get_logger("test")
    log.info("hello", user='a\nlevel=error "x"\r\x1b[31m\u2028', number=7, yes=True)
    log.debug("too much")
    try:
        secret = "local"
        raise ValueError("two\nlines")  # noqa: TRY301 - raised to be logged
    except ValueError:
        log.exception("failed")
    first, second = logs.getvalue().splitlines()
    assert first.startswith("level=info event=hello ")
    assert "number=7" in first
    assert "\x1b" not in first
    assert second.startswith("level=error event=failed ")
    assert "ValueError: two" in second
    assert "Traceback" in second
    assert f"= '{secret}'" not in second, "no local variables"


def test_lines_have_the_time_where_no_journal_adds_it(
    logs: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM")
    configure_logs(logs)
    structlog.get_logger("test").info("hello")
    assert re.fullmatch(r"timestamp=\d{4}-\d\d-\d\dT\S+Z level=info event=hello\n", logs.getvalue())


def test_rich_is_not_what_prints(logs: StringIO) -> None:
    processors = structlog.get_config()["processors"]
    assert not any(isinstance(one, structlog.dev.ConsoleRenderer) for one in processors)
    assert structlog.get_config()["wrapper_class"] is structlog.make_filtering_bound_logger(logging.INFO)


def test_no_password_is_logged_or_kept(
    tmp_path: Path, logs: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(server: InProcess) -> None:
        async def call(method: str, *params: Any) -> Any:
            return await server.dispatcher.dispatch(method, list(params), REMOTE)

        refused = await call("session.login_with_password", "root", WRONG)
        assert refused.code == "SESSION_AUTHENTICATION_FAILED"
        answer = await call("session.login_with_password", "root", RIGHT)
        assert isinstance(answer, Success)
        session = answer.value
        assert isinstance(await call("session.change_password", session, RIGHT, NEW), Success)
        assert isinstance(await call("session.slave_login", server.host.host, POOL), Refusal)
        assert isinstance(await call("session.login_with_password", "root"), Refusal)
        assert isinstance(await call("session.login_with_password", "root", [NEW]), Refusal)

        def buggy(*_: object) -> None:
            raise KeyError("a bug without secrets")

        async def broken(*args: object) -> None:
            raise RuntimeError(f"a bug with {args}")

        monkeypatch.setattr(server.sessions, "login_with_password", broken)
        monkeypatch.setattr(server.sessions, "change_password", broken)
        for method, *params in (
            ("session.login_with_password", "root", WRONG),
            ("session_login_with_password", "root", WRONG),
            ("session.change_password", session, RIGHT, NEW),
        ):
            bug = await call(method, *params)
            assert (bug.code, bug.params) == ("INTERNAL_ERROR", ("RuntimeError",))
        monkeypatch.setattr(server.events, "register", buggy)
        assert (await call("event.register", session, [])).params == ("KeyError: 'a bug without secrets'",)
        text = repr(list(server.database.view.all(Task)))
        printed = logs.getvalue()
        for secret in (WRONG, f"'{RIGHT}'", NEW, POOL):
            assert secret not in printed + text
        assert "login-refused" in printed
        assert "a bug without secrets" in printed

    with_server(tmp_path, body)
