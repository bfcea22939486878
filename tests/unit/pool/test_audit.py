"""Which changes of locks leave a line in the log, and what it says."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from tests.in_process import InProcess, with_server
from tests.unit.api.test_cli_calls import xe
from tests.unit.api.test_locks import running_vifs

ROOT = ("username=root", "password=secret")


def lines(logs: list[MutableMapping[str, Any]]) -> list[tuple[str, str, Any, Any]]:
    found = [line for line in logs if line["event"] == "lock-changed"]
    assert all(line["role"] == "superuser" and line["uuid"] and line["session"] for line in found)
    return [(line["method"], line["user"], line["before"], line["after"]) for line in found]


def test_each_change_of_a_lock_says_who_did_what_from_what_to_what(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        (vif,) = await running_vifs(server)
        with capture_logs() as logs:
            for words in (
                ["vif-param-set", f"uuid={vif}", "locking-mode=unlocked"],
                ["vif-param-set", f"uuid={vif}", "locking-mode=unlocked"],  # changes nothing
                ["vif-param-add", f"uuid={vif}", "param-name=ipv6-allowed", "param-key=fd00::1"],
                ["vif-param-set", f"uuid={vif}", "other-config:lock-shadow=true"],
                ["vif-param-set", f"uuid={vif}", "other-config:note=hello"],
                ["vif-param-set", f"uuid={vif}", "qos_algorithm_type=ratelimit"],
            ):
                assert (await xe(server, *words, *ROOT)).code == 0
            refused = await xe(server, "vif-param-set", f"uuid={vif}", "ipv4-allowed=nonsense")
            assert refused.code == 1
            rehearsed = await xe(server, "vif-param-set", f"uuid={vif}", "locking-mode=locked", "--dry-run")
            assert rehearsed.code == 0
        assert lines(logs) == [
            ("VIF.set_locking_mode", "root", {"locking_mode": "locked"}, {"locking_mode": "unlocked"}),
            ("VIF.add_ipv6_allowed", "root", {"ipv6_allowed": []}, {"ipv6_allowed": ["fd00::1"]}),
            ("VIF.add_to_other_config", "root", {"lock-shadow": ""}, {"lock-shadow": "true"}),
        ]

    with_server(tmp_path, body)


def test_a_networks_default_is_a_lock_too(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        network = (await xe(server, "network-create", "name-label=n")).out.strip()
        with capture_logs() as logs:
            await xe(server, "network-param-set", f"uuid={network}", "default-locking-mode=disabled", *ROOT)
        assert lines(logs) == [
            (
                "network.set_default_locking_mode",
                "root",
                {"default_locking_mode": "unlocked"},
                {"default_locking_mode": "disabled"},
            )
        ]

    with_server(tmp_path, body)
