"""`poolnet-api` as a process of its own: doors, start, crash, stop.

The host daemon behind it is a toy that speaks the real protocol and keeps a `HostNetwork` as a switch would: the real
one needs root and Open vSwitch, and the lab tests have it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import time
import urllib.request
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec
import pytest
from argon2 import PasswordHasher

from poolnet.hostnet import protocol
from poolnet.hostnet.diff import diff
from poolnet.hostnet.state import HostNetwork
from tests.in_process import FACTS, GREETING

PASSWORD = "correct horse battery staple"
API = str(Path(sys.executable).with_name("poolnet-api"))
READY_TIMEOUT_S = 20.0
STOP_S = 5.0  # 3 s are promised; this machine may have other things to do


class ToyHostd(socketserver.ThreadingUnixStreamServer):
    """Answers on a Unix socket, each connection in a thread of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Connection)
        self.network = HostNetwork()
        self.staged: dict[str, HostNetwork] = {}
        self.stuck, self.asked_to_switch, self.go_on = Event(), Event(), Event()

    def answer(self, command: protocol.Command) -> protocol.Answer:
        match command:
            case protocol.Hello():
                return GREETING
            case protocol.Observe():
                return protocol.Observation(network=self.network, facts=FACTS)
            case protocol.Stage(rollout=rollout, desired=desired):
                self.staged[rollout] = desired
                return protocol.Staged(plan=diff(self.network, desired), plan_hash="")
            case protocol.Switch() if self.stuck.is_set():
                self.asked_to_switch.set()
                self.go_on.wait(30)
                return protocol.Refused(fault=protocol.Fault.SWITCH_FAILED, message="stuck")
            case protocol.Switch(rollout=rollout):
                self.network = self.staged[rollout]
                return protocol.Done(facts=FACTS)
            case protocol.Watch():
                return protocol.FactsChanged(facts=FACTS)
            case protocol.Authenticate():
                return protocol.Authenticated(accepted=False, reason="toy")
            case _:
                return protocol.Done(facts=FACTS)


class _Connection(socketserver.StreamRequestHandler):
    """One client of the toy."""

    server: ToyHostd

    def handle(self) -> None:
        while len(head := self.rfile.read(4)) == 4:
            request = msgspec.json.decode(self.rfile.read(int.from_bytes(head, "big")), type=protocol.Request)
            reply = protocol.Reply(id=request.id, answer=self.server.answer(request.command))
            frame = msgspec.json.encode(reply)
            self.wfile.write(len(frame).to_bytes(4, "big") + frame)


class Daemon:
    """One poolnet-api below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("etc/poolnet", "run/poolnet", "var/lib/poolnet/api", "var/lib/xcp"):
            (root / name).mkdir(parents=True)
        self.https, self.http = _free_ports(2)
        config = f'listen = "127.0.0.1"\nhttps_port = {self.https}\nhttp_port = {self.http}\n'
        (root / "etc/poolnet/api.toml").write_text(config)
        users = root / "var/lib/poolnet/api/users.toml"
        users.write_text(f'[users.root]\npassword_hash = "{PasswordHasher(time_cost=1).hash(PASSWORD)}"\n')
        self.log = root / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [API], env={**os.environ, "POOLNET_ROOT": str(self.root)}, stdout=log, stderr=log
            )

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(60)

    def stop(self) -> float:
        """Tells it to stop; the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.wait() == 0
        return time.monotonic() - began

    def call(self, method: str, *params: Any) -> Any:
        with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{self.http}") as proxy:
            return getattr(proxy, method)(*params)

    def value(self, method: str, *params: Any) -> Any:
        answer = self.call(method, *params)
        assert answer["Status"] == "Success", answer
        return answer["Value"]

    def until_it_serves(self) -> str:
        """Waits for the first login to succeed, and gives its session."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                answer = self.call("session.login_with_password", "root", PASSWORD)
            except OSError:
                answer = {"Status": "not listening yet"}
            if answer["Status"] == "Success":
                return str(answer["Value"])
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


@contextmanager
def host_daemon(daemon: Daemon) -> Iterator[ToyHostd]:
    with ToyHostd(daemon.root / "run/poolnet/hostd.sock") as hostd:
        Thread(target=hostd.serve_forever, args=(0.02,), daemon=True).start()
        yield hostd
        hostd.go_on.set()
        hostd.shutdown()


def new_network(daemon: Daemon, session: str, name: str) -> str:
    return str(daemon.value("network.create", session, {"name_label": name, "other_config": {}}))


def test_every_door_answers_while_the_host_daemon_is_not_there_yet(daemon: Daemon) -> None:
    daemon.start()
    deadline = time.monotonic() + READY_TIMEOUT_S
    answer: Any = None
    while answer is None and time.monotonic() < deadline:
        try:
            answer = daemon.call("session.login_with_password", "root", PASSWORD)
        except OSError:
            time.sleep(0.05)
    assert answer == {"Status": "Failure", "ErrorDescription": ["HOST_STILL_BOOTING"]}
    body = json.dumps({"method": "network.get_all", "params": ["x"], "id": 7}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{daemon.http}/jsonrpc", body)
    with urllib.request.urlopen(request, timeout=60) as reply:
        said = json.load(reply)
    assert said == {"jsonrpc": "2.0", "error": ["HOST_STILL_BOOTING"], "id": 0}
    with host_daemon(daemon):
        session = daemon.until_it_serves()
        assert len(daemon.value("host.get_all", session)) == 1


def test_https_the_local_socket_and_the_reference_s_path(daemon: Daemon) -> None:
    with host_daemon(daemon):
        daemon.start()
        daemon.until_it_serves()
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with xmlrpc.client.ServerProxy(f"https://127.0.0.1:{daemon.https}", context=context) as proxy:
            assert "VLAN.create" in proxy.system.listMethods()  # type: ignore[operator]
        ours = daemon.root / "run/poolnet/xapi.sock"
        assert (daemon.root / "var/lib/xcp/xapi").resolve() == ours
        assert ours.stat().st_mode & 0o777 == 0o660
        keys = sorted((daemon.root / "var/lib/poolnet/api/tls").glob("*.key"))
        assert [key.stat().st_mode & 0o777 for key in keys] == [0o600, 0o600]


def test_somebody_else_s_socket_at_the_reference_s_path_stays(daemon: Daemon) -> None:
    theirs = daemon.root / "var/lib/xcp/xapi"
    theirs.write_text("xapi's own")
    with host_daemon(daemon):
        daemon.start()
        daemon.until_it_serves()
        assert theirs.read_text() == "xapi's own"


def test_a_crash_loses_nothing_that_was_acknowledged(daemon: Daemon) -> None:
    with host_daemon(daemon):
        daemon.start()
        session = daemon.until_it_serves()
        made = [new_network(daemon, session, f"n{i}") for i in range(20)]
        token = daemon.value("event.from", session, ["network"], "", 0.0)["token"]
        late = new_network(daemon, session, "late")
        assert daemon.process is not None
        daemon.process.kill()
        daemon.wait()
        daemon.start()
        session = daemon.until_it_serves()
        records = daemon.value("network.get_all_records", session)
        assert {*made, late} <= set(records)
        batch = daemon.value("event.from", session, ["network"], token, 0.0)
        assert (late, "add") in [(event["ref"], event["operation"]) for event in batch["events"]]
        assert batch["token"] > token


def test_a_stop_is_orderly_and_does_not_wait_for_those_who_wait(daemon: Daemon) -> None:
    with host_daemon(daemon):
        daemon.start()
        session = daemon.until_it_serves()
        token = daemon.value("event.from", session, ["network"], "", 0.0)["token"]

        def wait_for_events() -> None:
            with suppress(OSError, xmlrpc.client.Error, HTTPException):  # or an answer: both are an end
                daemon.call("event.from", session, ["vlan"], token, 60.0)

        waiting = Thread(target=wait_for_events)
        waiting.start()
        assert daemon.stop() < STOP_S
        waiting.join(5)
        assert "Traceback" not in daemon.log.read_text()


def test_a_stop_does_not_wait_for_a_host_that_is_stuck(daemon: Daemon) -> None:
    with host_daemon(daemon) as hostd:
        daemon.start()
        session = daemon.until_it_serves()
        network = new_network(daemon, session, "n")
        (eth1,) = daemon.value("PIF.get_all_where", session, 'field "device"="eth1"')
        hostd.stuck.set()

        def plug() -> None:
            with suppress(OSError, xmlrpc.client.Error, HTTPException):
                daemon.call("VLAN.create", session, eth1, "5", network)

        calling = Thread(target=plug)
        calling.start()
        assert hostd.asked_to_switch.wait(60)
        daemon.value("Async.VLAN.create", session, eth1, "6", network)
        assert daemon.stop() < STOP_S
        calling.join(5)
        assert "Traceback" not in daemon.log.read_text()


def test_a_host_that_cannot_be_made_what_it_should_be_is_served_all_the_same(daemon: Daemon) -> None:
    with host_daemon(daemon) as hostd:
        hostd.stuck.set()
        hostd.go_on.set()
        daemon.start()
        session = daemon.until_it_serves()
        assert len(daemon.value("host.get_all", session)) == 1
        assert "host-not-converged" in daemon.log.read_text()
        hostd.stuck.clear()
        new_network(daemon, session, "n")


def test_no_secret_is_logged(daemon: Daemon) -> None:
    with host_daemon(daemon):
        daemon.start()
        session = daemon.until_it_serves()
        wrong = "not the password, but somebody's"
        assert daemon.call("session.login_with_password", "root", wrong)["Status"] == "Failure"
        daemon.value("session.change_password", session, PASSWORD, "a new and secret one")
        daemon.call("session.slave_login", "OpaqueRef:x", "the pool secret")
        assert daemon.value("session.login_with_password", "root", "a new and secret one")
        users = daemon.root / "var/lib/poolnet/api/users.toml"
        assert users.stat().st_mode & 0o777 == 0o600
        log = daemon.log.read_text()
        assert "login-refused" in log
        for secret in (PASSWORD, wrong, "a new and secret one", "the pool secret"):
            assert secret not in log


def test_a_configuration_that_cannot_be_used_is_one_line(daemon: Daemon) -> None:
    (daemon.root / "etc/poolnet/api.toml").write_text("colour = 1\n")
    daemon.start()
    assert daemon.wait() == 1
    assert daemon.log.read_text().startswith("poolnet-api: ")
    assert daemon.log.read_text().count("\n") == 1


def test_a_second_server_on_the_same_database_is_refused(daemon: Daemon) -> None:
    with host_daemon(daemon):
        daemon.start()
        daemon.until_it_serves()
        second = subprocess.run(
            [API],
            env={**os.environ, "POOLNET_ROOT": str(daemon.root)},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert second.returncode == 1
        assert "Traceback" not in second.stderr
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(str(daemon.root / "run/poolnet/xapi.sock"))  # the first one's door is as it was
