"""What the program `xe` sends, obeys and prints, against a server that speaks the bytes of spec xe-cli §11."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

HEADER = bytes.fromhex("58656e536f75726365207468696e20434c492070726f746f636f6c 00000000 02000000")
EXIT_0 = bytes.fromhex("0c000000 09000000 04000000 00000000")
EXIT_1 = bytes.fromhex("0c000000 09000000 04000000 01000000")
PRINT_UUID = bytes.fromhex(
    "30000000 09000000 00000000 24000000"
    "32633063316232652d306633652d346237652d396430612d"
    "356131663766366630303031"
)
UUID = "2c0c1b2e-0f3e-4b7e-9d0a-5a1f7f6f0001"
COMPLAINT = bytes.fromhex("2f000000 09000000 10000000 23000000") + b"The uuid you supplied was invalid.\n"
MISSING = (
    bytes.fromhex("28000000 09000000 0e000000 11000000")
    + b"Missing parameter"
    + bytes.fromhex("01000000 03000000 666f6f")
)
PROMPT = bytes.fromhex("08000000 09000000 03000000")
ANSWER_YES = bytes.fromhex("0c000000 0b000000 07000000 03000000 796573 08000000 0b000000 08000000")


def frame(*words: int | bytes) -> bytes:
    """A frame of integers and strings."""
    payload = b"".join(
        word.to_bytes(4, "little", signed=True)
        if isinstance(word, int)
        else len(word).to_bytes(4, "little") + word
        for word in words
    )
    return len(payload).to_bytes(4, "little") + payload


class FakeServer:
    """Answers one connection with fixed bytes, in pieces of a given size, and keeps what it received."""

    def __init__(self, answer: bytes, *, header: bytes = HEADER, piece: int = 1 << 16) -> None:
        self.answer = answer
        self.header = header
        self.piece = piece
        self.request = b""
        self.replies = b""

    def serve(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.request = self._receive_request(connection)
            self._send(connection, self.header)
            if self.header != HEADER:
                return
            self.replies = self._exactly(connection, len(HEADER))
            self._send(connection, self.answer)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(1 << 16):
                self.replies += data

    def _receive_request(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(1 << 16)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        return data + self._exactly(connection, length - len(body))

    def _exactly(self, connection: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += connection.recv(count - len(data))
        return data

    def _send(self, connection: socket.socket, data: bytes) -> None:
        for start in range(0, len(data), self.piece):
            connection.sendall(data[start : start + self.piece])


@contextmanager
def serving(server: FakeServer) -> Iterator[int]:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(10)


def xe(
    words: Sequence[str],
    *,
    home: Path,
    stdin: str = "",
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **(environ or {}),
    }
    return subprocess.run(
        [sys.executable, "-m", "poolnet.xe.thin", *words],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment,
        cwd=directory or home,
        timeout=30,
        check=False,
    )


def converse(
    server: FakeServer,
    words: Sequence[str],
    *,
    home: Path,
    stdin: str = "",
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    with serving(server) as port:
        target = ["-s", "127.0.0.2", "-p", str(port), "--nossl"]
        return xe([*target, *words], home=home, stdin=stdin, environ=environ)


def body(server: FakeServer) -> str:
    return server.request.partition(b"\r\n\r\n")[2].decode()


def test_the_request_is_the_one_of_the_worked_example(tmp_path: Path) -> None:
    server = FakeServer(PRINT_UUID + EXIT_0)
    done = converse(server, ["network-create", "name-label=net1", "-u", "root", "-pw", "pw"], home=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (f"{UUID}\n", "", 0)
    assert server.request == (
        b"POST /cli HTTP/1.0\r\nUser-agent: xe-cli/Unix/0.2\r\noriginator: cli\r\ncontent-length: 56\r\n\r\n"
        b"network-create\nname-label=net1\nusername=root\npassword=pw"
    )
    assert server.replies == HEADER


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_the_failure_of_the_worked_example_is_printed_however_it_is_cut(tmp_path: Path, piece: int) -> None:
    server = FakeServer(COMPLAINT + MISSING + EXIT_1, piece=piece)
    done = converse(server, ["network-param-get", "uuid=x", "param-name=foo"], home=tmp_path)
    assert done.stderr == (
        "The uuid you supplied was invalid.\nError code: Missing parameter\nError parameters: foo\n"
    )
    assert (done.stdout, done.returncode) == ("", 1)


def test_a_prompt_is_answered_as_in_the_worked_example(tmp_path: Path) -> None:
    server = FakeServer(PROMPT + EXIT_0)
    assert converse(server, ["host-forget"], home=tmp_path, stdin="yes\n").returncode == 0
    assert server.replies == HEADER + ANSWER_YES


def test_the_end_of_stdin_at_a_prompt_ends_the_session(tmp_path: Path) -> None:
    done = converse(FakeServer(PROMPT), ["host-forget"], home=tmp_path)
    assert (done.stderr, done.returncode) == ("Lost connection to the server.\n", 1)


def test_the_first_exit_counts_and_codes_are_cut_to_eight_bits(tmp_path: Path) -> None:
    done = converse(FakeServer(frame(9, 4, 259) + EXIT_1), ["x"], home=tmp_path)
    assert done.returncode == 3


def test_a_lost_connection_is_named(tmp_path: Path) -> None:
    done = converse(FakeServer(PRINT_UUID), ["x"], home=tmp_path)
    assert (done.stdout, done.stderr) == (f"{UUID}\n", "Lost connection to the server.\n")
    assert done.returncode == 1


def test_debug_texts_are_shown_only_when_asked_for(tmp_path: Path) -> None:
    debug = frame(9, 15, b"inside") + EXIT_1
    assert converse(FakeServer(debug), ["x"], home=tmp_path).stderr == ""
    assert "inside\n" in converse(FakeServer(debug), ["x", "--debug"], home=tmp_path).stderr
    late = converse(FakeServer(debug), ["x", "--debug-on-fail"], home=tmp_path).stderr
    assert late.startswith("Debug info:\n")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", "Server internal error.\n"),
        (b"", "Unable to contact server. Please check server and port settings.\n"),
        (
            b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
            "Failed to contact a running management agent.\nTry specifying a server name and port.\nUsage:",
        ),
        (
            HEADER[:27] + bytes.fromhex("01000000 00000000"),
            "Protocol version mismatch: Server has protocol version 1.0. Client has 0.2.\n"
            "Try specifying a server name and port on the command-line.\nUsage:",
        ),
    ],
)
def test_a_server_that_is_none_is_refused(tmp_path: Path, header: bytes, expected: str) -> None:
    done = converse(FakeServer(b"", header=header), ["x"], home=tmp_path)
    assert done.stderr.startswith(expected)
    assert done.returncode == 1


def test_an_unknown_tag_ends_the_session(tmp_path: Path) -> None:
    done = converse(FakeServer(frame(9, 99)), ["x"], home=tmp_path)
    assert 'Unknown_tag("command", 99)' in done.stderr
    assert done.returncode == 1


def test_nobody_listening_is_a_refused_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
    done = xe(["-s", "127.0.0.2", "-p", str(port), "--nossl", "x"], home=tmp_path)
    assert (done.stderr, done.returncode) == ("Error: Connection refused (calling connect )\n", 1)


def test_words_come_from_the_command_line_then_the_environment_then_the_file(tmp_path: Path) -> None:
    (tmp_path / ".xe").write_text("username=filed\npassword=a=b c\nlast=file\n\n")
    server = FakeServer(EXIT_0)
    environ = {"XE_EXTRA_ARGS": "-u,extra\\,user,middle=1\\,2\\3", "TRACEPARENT": "00-1", "BAGGAGE": "k=v"}
    converse(server, ["cmd", "first=x"], home=tmp_path, environ=environ)
    assert body(server) == "cmd\nfirst=x\nmiddle=1,23\nlast=file\nusername=extra,user\npassword=a=b c"
    assert b"originator: cli\r\ntraceparent: 00-1\r\nbaggage: k=v\r\ncontent-length" in server.request


def test_a_bad_line_in_the_file_makes_it_worthless(tmp_path: Path) -> None:
    (tmp_path / ".xe").write_text("username=filed\nnonsense\n")
    server = FakeServer(EXIT_0)
    done = converse(server, ["cmd"], home=tmp_path)
    assert done.stderr == "Error parsing rc file. No defaults loaded\n"
    assert body(server) == "cmd\nusername=root\npassword=null"


def test_a_password_file_gives_user_and_password(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("admin\nsecret\n")
    server = FakeServer(EXIT_0)
    converse(server, ["cmd", "-pwf", str(tmp_path / "pw")], home=tmp_path)
    assert body(server) == "cmd\nusername=admin\npassword=secret"


def test_a_bad_password_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("admin\n")
    done = xe(["cmd", "-pwf", "gone"], home=tmp_path)
    assert (done.stderr, done.returncode) == ("Error opening password file 'gone'\n", 1)
    done = xe(["cmd", "passwordfile=pw"], home=tmp_path)
    assert done.stderr == (
        "Error: password file format: expecting username on the first line, password on the second line\n"
    )
    assert done.returncode == 1


@pytest.mark.parametrize("words", [[], ["--help"], ["vm-list", "-help"], ["-s", "h"]])
def test_usage_goes_to_stderr_and_is_no_failure(tmp_path: Path, words: list[str]) -> None:
    done = xe(words, home=tmp_path)
    assert done.stderr.startswith("Usage:")
    assert (done.stdout, done.returncode) == ("", 0)


def test_a_bad_port_is_no_failure_either(tmp_path: Path) -> None:
    for port in ("x", "65536", "-1"):
        done = xe(["-p", port, "vm-list"], home=tmp_path)
        assert done.stderr.startswith("Port number must be an integer (0-65535)\nUsage:")
        assert done.returncode == 0


def test_a_bad_boolean_is(tmp_path: Path) -> None:
    done = xe(["vm-list", "nossl=garbage"], home=tmp_path)
    assert (done.stderr, done.returncode) == ('Unhandled exception\nInvalid_argument("bool_of_string")\n', 1)


def test_the_version_is_that_of_the_protocol(tmp_path: Path) -> None:
    done = xe(["vm-list", "-version"], home=tmp_path)
    assert (done.stdout, done.returncode) == ("ThinCLI protocol: 0.2\n", 0)


def test_a_file_on_the_command_line_is_sent(tmp_path: Path) -> None:
    (tmp_path / "cert").write_bytes(b"PEM")
    server = FakeServer(frame(9, 1, b"cert") + EXIT_0)
    done = converse(server, ["pool-certificate-install", "filename=cert"], home=tmp_path)
    assert done.returncode == 0
    assert server.replies == HEADER + frame(10, 5) + frame(11, 7, 3) + b"PEM" + frame(11, 8)


def test_a_file_that_cannot_be_read_is_answered_with_failed(tmp_path: Path) -> None:
    server = FakeServer(frame(9, 1, b"gone") + EXIT_1)
    done = converse(server, ["pool-certificate-install", "filename=gone"], home=tmp_path)
    assert done.returncode == 1
    assert server.replies == HEADER + frame(10, 6)


@pytest.mark.parametrize("tag", [1, 12, 13])
def test_a_file_that_is_not_on_the_command_line_is_never_touched(tmp_path: Path, tag: int) -> None:
    (tmp_path / "secret").write_text("s")
    asked = frame(9, 1, b"secret") if tag == 1 else frame(9, tag, b"secret", b"/x")
    server = FakeServer(asked + EXIT_0)
    done = converse(server, ["x", "filename=other"], home=tmp_path)
    assert done.stderr.startswith("File not permitted: Blocked upload/download of the file secret, which was")
    assert done.returncode == 1
    assert server.replies == HEADER


class FileServer(FakeServer):
    """Serves one transfer beside the command's connection."""

    def __init__(self, answer: bytes, reply: bytes) -> None:
        super().__init__(answer)
        self.reply = reply
        self.transfer = b""

    def serve(self, listener: socket.socket) -> None:
        other = threading.Thread(target=self._serve_transfer, args=(listener, threading.Event()))
        connection, _ = listener.accept()
        with connection:
            self.request = self._receive_request(connection)
            connection.sendall(HEADER)
            self.replies = self._exactly(connection, len(HEADER))
            other.start()
            connection.sendall(self.answer)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(1 << 16):
                self.replies += data
        other.join(10)

    def _serve_transfer(self, listener: socket.socket, _: threading.Event) -> None:
        connection, _address = listener.accept()
        with connection, suppress(OSError):  # a client that has had enough
            while b"\r\n\r\n" not in self.transfer:
                self.transfer += connection.recv(1 << 16)
            connection.sendall(self.reply)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(1 << 16):
                self.transfer += data


def test_a_download_makes_a_new_private_file(tmp_path: Path) -> None:
    server = FileServer(frame(9, 12, b"out", b"/get?x=1") + EXIT_0, b"HTTP/1.0 200 OK\r\nA: b\r\n\r\ndata")
    done = converse(server, ["x", "file-name=out"], home=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "out").read_bytes() == b"data"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
    assert server.transfer == b"GET /get?x=1 HTTP/1.0\r\n\r\n"
    assert server.replies == HEADER + frame(10, 5)


def test_a_download_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    server = FileServer(frame(9, 12, b"out", b"/get") + EXIT_0, b"HTTP/1.0 200 OK\r\n\r\ndata")
    done = converse(server, ["x", "file-name=out"], home=tmp_path)
    assert done.stderr == 'Operation failed. Error: Sys_error("out: File exists")\n'
    assert done.returncode == 1
    assert (tmp_path / "out").read_text() == "old"


def test_an_upload_sends_the_file_after_the_answer(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"data")
    server = FileServer(frame(9, 13, b"in", b"/put") + EXIT_0, b"HTTP/1.0 200 OK\r\n\r\n")
    assert converse(server, ["x", "file-name=in"], home=tmp_path).returncode == 0
    assert server.transfer == b"PUT /put HTTP/1.0\r\nContent-length: 4\r\n\r\ndata"


def test_a_refused_transfer_is_answered_with_failed(tmp_path: Path) -> None:
    server = FileServer(frame(9, 12, b"out", b"/get") + EXIT_0, b"HTTP/1.0 403 Forbidden\r\n\r\n")
    assert converse(server, ["x", "file-name=out"], home=tmp_path).returncode == 0
    assert server.replies == HEADER + frame(10, 6)
    assert not (tmp_path / "out").exists()


def test_an_upload_without_its_file_ends_the_session(tmp_path: Path) -> None:
    server = FakeServer(frame(9, 13, b"gone", b"/put") + EXIT_0)
    done = converse(server, ["x", "file-name=gone"], home=tmp_path)
    assert done.stderr == "Operation failed. Error: file 'gone' does not exist\n"
    assert done.returncode == 1
    assert server.replies == HEADER + frame(10, 6)


@pytest.mark.parametrize("length", [-1, 0x7FFFFFFF, 1 << 28])
def test_a_frame_whose_length_lies_ends_the_session(tmp_path: Path, length: int) -> None:
    server = FakeServer(length.to_bytes(4, "little", signed=True) + b"x" * 100)
    done = converse(server, ["x"], home=tmp_path)
    assert (done.returncode, done.stderr) == (1, "Lost connection to the server.\n")
    text = (1 << 20).to_bytes(4, "little")  # of a text that is longer than its frame
    server = FakeServer(frame(9, 0, b"")[:-4] + text + EXIT_0)
    assert converse(server, ["x"], home=tmp_path).returncode == 1


@pytest.mark.parametrize(
    "url",
    [
        b"http://[::1/x",
        b"http://127.0.0.2:99999/x",
        b"http://127.0.0.2:x/",
        b"file:///etc/passwd",
        b"ftp://127.0.0.2/x",
        b"http://\xff\xfe/",
    ],
)
@pytest.mark.parametrize("tag", [12, 13])
def test_an_address_that_is_none_is_answered_with_failed(tmp_path: Path, url: bytes, tag: int) -> None:
    (tmp_path / "in").write_bytes(b"data")
    name = "out" if tag == 12 else "in"
    server = FakeServer(frame(9, tag, name.encode(), url) + EXIT_0)
    done = converse(server, ["x", f"file-name={name}"], home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.replies == HEADER + frame(10, 6)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tag", [1, 12, 13])
def test_a_file_name_that_is_none_is_refused(tmp_path: Path, tag: int) -> None:
    asked = frame(9, 1, b"in\0x") if tag == 1 else frame(9, tag, b"in\0x", b"/x")
    done = converse(FakeServer(asked + EXIT_0), ["x", "file-name=in"], home=tmp_path)
    assert done.stderr.startswith("File not permitted")


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.0 302 Found\r\nLocation: \xff\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n" + b"a: b\r\n" * 1000,
        b"HTTP/1.0 200 OK\r\n" + b"x" * 200_000,
        b"",
    ],
)
def test_a_head_that_is_none_is_answered_with_failed(tmp_path: Path, reply: bytes) -> None:
    server = FileServer(frame(9, 12, b"out", b"/get") + EXIT_0, reply)
    assert converse(server, ["x", "file-name=out"], home=tmp_path).returncode == 0
    assert server.replies == HEADER + frame(10, 6)


def test_a_server_elsewhere_does_not_lead_to_the_local_socket(tmp_path: Path) -> None:
    path = tmp_path / "run" / "poolnet" / "xapi.sock"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener, socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(0)
        closed.close()
        for tag in (12, 13):
            (tmp_path / f"{tag}").write_bytes(b"data") if tag == 13 else None
            server = FakeServer(frame(9, tag, f"{tag}".encode(), b"http://127.0.0.1:%d/x" % port) + EXIT_0)
            root = {"POOLNET_ROOT": str(tmp_path)}
            assert converse(server, ["x", f"f={tag}"], home=tmp_path, environ=root).returncode == 0
            assert server.replies == HEADER + frame(10, 6)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_what_commands_a_terminal_is_shown_there_and_given_to_others_as_it_is(tmp_path: Path) -> None:
    evil = "a\x1b]0;x\x07b\r\x9b2Jc\u202e\x7f\u3000\u00a0d\te\ud83d".encode("utf-8", "surrogatepass")
    seen = "a\\x1b]0;x\\x07b\\r\\x9b2Jc\\u202e\\x7f\u3000\u00a0d\te\\xed\\xa0\\xbd"
    server = FakeServer(frame(9, 0, evil) + frame(9, 16, evil + b"\n") + EXIT_0)
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        with serving(server) as port:
            words = ["-s", "127.0.0.2", "-p", str(port), "--nossl", "x"]
            environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
            subprocess.run(
                [sys.executable, "-m", "poolnet.xe.thin", *words],
                stdin=subprocess.DEVNULL,
                stdout=slave,
                stderr=slave,
                env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
                timeout=30,
                check=True,
            )
        assert os.read(master, 1 << 16).decode() == f"{seen}\n{seen}\n"
    finally:
        os.close(slave)
        os.close(master)
    piped = FakeServer(frame(9, 0, evil) + EXIT_0)
    with serving(piped) as port:
        done = subprocess.run(
            [sys.executable, "-m", "poolnet.xe.thin", "-s", "127.0.0.2", "-p", str(port), "--nossl", "x"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=30,
            check=True,
        )
    assert done.stdout == evil + b"\n"


def test_the_local_server_is_reached_by_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "run" / "poolnet" / "xapi.sock"
    path.parent.mkdir(parents=True)
    received: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            received.append(connection.recv(1 << 16))
            connection.sendall(HEADER + EXIT_0)
            while connection.recv(1 << 16):
                pass

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        done = xe(["vm-list"], home=tmp_path, environ={"POOLNET_ROOT": str(tmp_path)})
        thread.join(10)
    assert done.returncode == 0
    assert received[0].endswith(b"vm-list\nusername=root\npassword=null")


def test_nothing_heavy_is_imported_for_a_local_command(tmp_path: Path) -> None:
    code = "import sys, poolnet.xe.thin; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)},
        check=True,
        timeout=30,
    )
    heavy = {
        "argparse",
        "asyncio",
        "dataclasses",
        "enum",
        "json",
        "re",
        "socket",
        "ssl",
        "typing",
        "threading",
    }
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)},
    )
    assert heavy & (set(done.stdout.split()) - set(bare.stdout.split())) == set()
