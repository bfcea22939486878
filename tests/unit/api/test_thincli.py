"""The thin command line's bytes: the worked example of xe-cli §11.4, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Sequence

import pytest

from poolnet.api import limits, thincli
from poolnet.api.answer import Origin
from poolnet.api.http import RunCli, Timeouts
from poolnet.api.thincli import words_of
from poolnet.xe.client import Client, LoadRefused
from poolnet.xe.refusals import Refused
from tests.unit.api.toy import Toy, exchange, serving, until_connections

REQUEST = (
    b"POST /cli HTTP/1.0\r\nUser-agent: xe-cli/Unix/0.2\r\noriginator: cli\r\ncontent-length: 56\r\n\r\n"
    b"network-create\nname-label=net1\nusername=root\npassword=pw"
)
HELLO = bytes.fromhex(
    "58 65 6e 53 6f 75 72 63 65 20 74 68 69 6e 20 43 4c 49 20 70 72 6f 74 6f 63 6f 6c 00 00 00 00 02 00 00 00"
)
PRINTED = bytes.fromhex(
    "30 00 00 00 09 00 00 00 00 00 00 00 24 00 00 00"
    "32 63 30 63 31 62 32 65 2d 30 66 33 65 2d 34 62 37 65 2d 39 64 30 61 2d"
    "35 61 31 66 37 66 36 66 30 30 30 31"
)
FAILED = (
    bytes.fromhex("2f 00 00 00 09 00 00 00 10 00 00 00 23 00 00 00")
    + b"The uuid you supplied was invalid.\n"
    + bytes.fromhex("28 00 00 00 09 00 00 00 0e 00 00 00 11 00 00 00")
    + b"Missing parameter"
    + bytes.fromhex("01 00 00 00 03 00 00 00 66 6f 6f")
)
EXIT_0 = bytes.fromhex("0c 00 00 00 09 00 00 00 04 00 00 00 00 00 00 00")
EXIT_1 = bytes.fromhex("0c 00 00 00 09 00 00 00 04 00 00 00 01 00 00 00")
PROMPT = bytes.fromhex("08 00 00 00 09 00 00 00 03 00 00 00")
YES = (
    bytes.fromhex("0c 00 00 00 0b 00 00 00 07 00 00 00 03 00 00 00")
    + b"yes"
    + bytes.fromhex("08 00 00 00 0b 00 00 00 08 00 00 00")
)
OK = struct.pack("<iii", 8, 10, 5)
FAILED_RESPONSE = struct.pack("<iii", 8, 10, 6)
END = struct.pack("<iii", 8, 11, 8)


def chunk(size: int) -> bytes:
    return struct.pack("<iiii", 12, 11, 7, size)


def load(name: bytes) -> bytes:
    return struct.pack("<iiii", 12 + len(name), 9, 1, len(name)) + name


def session(run: RunCli, answers: Sequence[tuple[bytes, bytes]], *, request: bytes = REQUEST) -> bytes:
    """Plays a client: after each expected text, sends the next; gives what else came until the end."""

    async def playing() -> bytes:
        async with serving(Toy(), run) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            try:
                for expected, answer in answers:
                    assert await asyncio.wait_for(reader.readexactly(len(expected)), 10) == expected
                    writer.write(answer)
                return await asyncio.wait_for(reader.read(), 10)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):  # it may be closed with our bytes unread
                    await writer.wait_closed()
                await until_connections(server, 0)

    return asyncio.run(playing())


def test_the_worked_example() -> None:
    seen: list[tuple[Sequence[str], Origin]] = []

    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        seen.append((words, origin))
        await client.print("2c0c1b2e-0f3e-4b7e-9d0a-5a1f7f6f0001")
        await client.exit(0)

    assert session(run, [(HELLO, HELLO)]) == PRINTED + EXIT_0
    ((words, origin),) = seen
    assert list(words) == ["network-create", "name-label=net1", "username=root", "password=pw"]
    assert origin.headers["originator"] == "cli"


def test_the_failure_of_the_worked_example() -> None:
    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        await client.print_error("The uuid you supplied was invalid.\n")
        await client.error("Missing parameter", ["foo"])
        await client.exit(1)

    assert session(run, [(HELLO, HELLO)]) == FAILED + EXIT_1


def test_the_prompt_of_the_worked_example() -> None:
    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        assert await client.prompt() == "yes"
        await client.exit(0)

    assert session(run, [(HELLO, HELLO), (PROMPT, YES)]) == EXIT_0


def test_bytes_that_come_one_by_one_are_the_same() -> None:
    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        assert await client.prompt() == "yes"
        await client.exit(0)

    async def playing() -> bytes:
        async with serving(Toy(), run) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            assert await reader.readexactly(len(HELLO)) == HELLO
            for byte in HELLO + YES:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            answer = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            await writer.wait_closed()
            return answer

    assert asyncio.run(playing()) == PROMPT + EXIT_0


def test_a_file_is_loaded() -> None:
    content = bytes(range(256)) * 4000

    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        assert await client.load("licence") == content
        await client.exit(0)

    answer = OK + chunk(len(content)) + content + END
    assert session(run, [(HELLO, HELLO), (load(b"licence"), answer)]) == EXIT_0


def test_a_file_in_pieces_is_put_together() -> None:
    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        assert await client.load("licence") == b"ab" * 1000
        await client.exit(0)

    answer = OK + (chunk(1) + b"a" + chunk(1) + b"b") * 1000 + chunk(0) + END
    assert session(run, [(HELLO, HELLO), (load(b"licence"), answer)]) == EXIT_0


def test_a_client_that_only_says_that_its_transfer_goes_on_is_put_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thincli, "CLI_WAITS_MAX", 5)

    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        await client.download("f", "/x")
        raise AssertionError("nothing came of it")

    asked = struct.pack("<iiii", 19, 9, 12, 1) + b"f" + struct.pack("<i", 2) + b"/x"
    assert session(run, [(HELLO, HELLO), (asked, struct.pack("<iii", 8, 10, 18) * 5)]) == b""


def test_a_file_may_be_refused() -> None:
    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        with pytest.raises(LoadRefused):
            await client.load("licence")
        await client.exit(1)

    assert session(run, [(HELLO, HELLO), (load(b"licence"), FAILED_RESPONSE)]) == EXIT_1


def test_a_file_may_not_be_larger_than_the_limit() -> None:
    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        with pytest.raises(Refused, match="more than the maximum allowed of 33554432B, aborting"):
            await client.load("f")
        await client.exit(1)

    size = limits.CLI_LOAD_BYTES_MAX + 1
    answer = OK + chunk(size) + b"x" * (2 * limits.CLI_BUFFER_BYTES)
    assert session(run, [(HELLO, HELLO), (load(b"f"), answer)]) == EXIT_1


def test_long_output_is_cut_at_newlines() -> None:
    lines = [f"{number:05d}" * 20 for number in range(1000)]

    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        await client.print("\n".join(lines))
        await client.print("x" * 50_000 + "\n" + "y")
        await client.exit(0)

    printed = session(run, [(HELLO, HELLO)]).removesuffix(EXIT_0)
    texts: list[str] = []
    while printed:
        size, _, tag, length = struct.unpack_from("<iiii", printed)
        assert (tag, length) == (0, size - 12)
        texts.append(printed[16 : 4 + size].decode())
        printed = printed[4 + size :]
    assert "\n".join(texts) == "\n".join([*lines, "x" * 50_000, "y"])
    assert sum(len(text) > 16_000 for text in texts) == 1


def test_words_are_lines_whose_carriage_returns_are_dropped() -> None:
    assert words_of(b"a b\r\nc\n\nd=\xff\r") == ("a b", "c", "", "d=\udcff")


async def never(words: Sequence[str], client: Client, origin: Origin) -> None:
    """A command that must not start."""
    raise AssertionError(words)


def test_another_major_version_is_answered_with_http_500() -> None:
    other = HELLO[:27] + struct.pack("<ii", 1, 0)
    assert session(never, [(HELLO, other)]).startswith(b"HTTP/1.1 500 ")


def test_another_minor_version_is_welcome() -> None:
    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        await client.exit(0)

    assert session(run, [(HELLO, HELLO[:27] + struct.pack("<ii", 0, 9))]) == EXIT_0


@pytest.mark.parametrize("greeting", [b"x" * 35, b"GET / HTTP/1.1\r\nHost: somewhere else\r\n\r\n"])
def test_who_greets_otherwise_is_no_client(greeting: bytes) -> None:
    assert session(never, [(HELLO, greeting)]) == b""


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\xff\xff\xff",
        struct.pack("<i", 2**31 - 1),
        struct.pack("<i", 0),
        struct.pack("<iii", 8, 10, 5),
        struct.pack("<iii", 8, 99, 99),
        struct.pack("<iii", 8, 11, 7),
        b"\x00" * 1000,
        chunk(0) * 4096 + END,
    ],
)
def test_an_answer_that_is_no_blob_ends_the_command(answer: bytes) -> None:
    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        await client.prompt()
        raise AssertionError("the prompt was answered")

    assert session(run, [(HELLO, HELLO), (PROMPT, answer)]) == b""


def vanishing(run: RunCli, leave: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Plays a client that greets and then leaves in some way; the server must get over it."""

    async def playing() -> None:
        async with serving(Toy(), run, timeouts=Timeouts(send_stall_s=0.3)) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            await reader.readexactly(len(HELLO))
            await leave(writer)
            await until_connections(server, 0)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    asyncio.run(playing())


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.write(HELLO)
    await writer.drain()
    writer.close()


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def shout(writer: asyncio.StreamWriter) -> None:
    writer.write(HELLO + b"z" * 10 * limits.CLI_FRAME_BYTES_MAX)


async def stay_deaf(writer: asyncio.StreamWriter) -> None:
    writer.write(HELLO)
    writer.transport.pause_reading()  # type: ignore[attr-defined]


@pytest.mark.parametrize("leave", [hang_up, cut, shout])
def test_a_client_that_vanishes_cancels_its_command(
    leave: Callable[[asyncio.StreamWriter], Awaitable[None]],
) -> None:
    ends: list[str] = []

    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    vanishing(run, leave)
    assert ends in ([], ["cancelled"])  # none: it left before the command began


def test_a_client_that_reads_nothing_is_put_out() -> None:
    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        while True:
            await client.print("x" * 1_000_000)

    vanishing(run, stay_deaf)


def test_a_body_without_a_length_is_a_server_error() -> None:
    async def asking() -> bytes:
        async with serving(Toy(), never) as (_, port):
            return await exchange(
                port,
                b"POST /cli HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            )

    assert asyncio.run(asking()).startswith(b"HTTP/1.1 500 ")
