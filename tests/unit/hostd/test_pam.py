"""A service of PAM that has no file lets nobody in: PAM itself would take `other`, and with it every account."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from poolnet.hostd import pam


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Which services PAM was asked for; it accepts everybody."""
    services: list[str] = []
    monkeypatch.setattr(pam, "_SERVICES", (tmp_path,))
    monkeypatch.setattr(
        "pamela.authenticate", lambda user, password, service, resetcred: services.append(service)
    )
    monkeypatch.setattr("pamela.check_account", lambda user, service: None)
    return services


def test_without_its_file_a_service_is_not_asked(asked: list[str], tmp_path: Path) -> None:
    assert not asyncio.run(pam.authenticate("alice", "right", "poolnet")).accepted
    assert asked == []
    (tmp_path / "poolnet").write_text("")
    assert asyncio.run(pam.authenticate("alice", "right", "poolnet")).accepted
    assert asked == ["poolnet"]


@pytest.mark.parametrize(("user", "password"), [("", "x"), ("a\0b", "x"), ("a", "x\0y")])
def test_names_that_are_none_are_not_asked_about(
    asked: list[str], tmp_path: Path, user: str, password: str
) -> None:
    (tmp_path / "poolnet").write_text("")
    assert not asyncio.run(pam.authenticate(user, password, "poolnet")).accepted
    assert asked == []
