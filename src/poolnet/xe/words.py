"""Which words does `xe` keep for itself, and which does it send? (spec xe-cli §2.1) Only `thin` asks."""

from __future__ import annotations

import sys

KEYWORDS = frozenset(
    "server port username password passwordfile nossl debug debugonfail traceparent".split()  # noqa: SIM905 - shorter so
)
SWITCHES_WITH_VALUE = {
    "-s": "server",
    "-h": "server",
    "-p": "port",
    "-u": "username",
    "-pw": "password",
    "-pwf": "passwordfile",
    "--traceparent": "traceparent",
}
SWITCHES = {"--nossl": "nossl", "--debug": "debug", "--debug-on-fail": "debugonfail"}


class Refused(Exception):
    """The command line cannot be used: text for stderr, exit code, and whether the usage text follows."""

    def __init__(self, text: str, *, code: int, usage: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.usage = usage


class Options:
    """What the client itself was told, and the words for the server.

    `command_line` are those of the words that were typed: a server may only touch files that they name.
    """

    def __init__(self) -> None:
        self.server = "127.0.0.1"
        self.port: int | None = None
        self.username = "root"
        self.password = "null"  # noqa: S105 - a word of the protocol, no secret
        self.nossl = False
        self.debug = False
        self.debug_on_fail = False
        self.traceparent = ""
        self.baggage = ""
        self.words: list[str] = []
        self.command_line: list[str] = []

    def body(self) -> bytes:
        """The body of the request: one word a line, the login pair last."""
        lines = [*self.words, f"username={self.username}", f"password={self.password}"]
        return "\n".join(lines).encode("utf-8", "surrogateescape")

    def set(self, keyword: str, value: str) -> None:
        """Obey one of the client's own keywords.

        Raises:
            Refused: a port that is none, a password file that cannot be used, or a bad boolean.
        """
        match keyword:
            case "server":
                self.server = value
            case "port":
                self.port = _port(value)
            case "passwordfile":
                self.username, self.password = _password_file(value)
            case "nossl":
                self.nossl = _boolean(value)
            case "debug":
                self.debug = _boolean(value)
            case "debugonfail":
                self.debug_on_fail = _boolean(value)
            case "username":
                self.username = value
            case "password":
                self.password = value
            case _:
                self.traceparent = value


def gather(arguments: list[str], environ: dict[str, str]) -> Options:
    """Read ~/.xe, XE_EXTRA_ARGS, TRACEPARENT and the command line; later ones win.

    The server's words keep this order: the command line's, XE_EXTRA_ARGS's, the file's.

    Raises:
        Refused: see `Options.set`.
    """
    options = Options()
    from_file = _take(_rc_words(environ.get("HOME", "")), options)
    from_environment = _take(_extra_words(environ.get("XE_EXTRA_ARGS", "")), options)
    options.traceparent = environ.get("TRACEPARENT", options.traceparent)
    options.baggage = environ.get("BAGGAGE", "")
    options.command_line = _take(arguments, options)
    options.words = [*options.command_line, *from_environment, *from_file]
    return options


def _take(words: list[str], options: Options) -> list[str]:
    """Obey the client's own words among these, and give back the others."""
    left: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        key, equals, value = word.partition("=")
        if word in SWITCHES_WITH_VALUE and position < len(words):
            options.set(SWITCHES_WITH_VALUE[word], words[position])
            position += 1
        elif word in SWITCHES:
            options.set(SWITCHES[word], "true")
        elif equals and key in KEYWORDS:
            options.set(key, value)
        else:
            left.append(word)
    return left


def _extra_words(text: str) -> list[str]:
    """Split XE_EXTRA_ARGS at its commas; a comma after a backslash stays, and all backslashes vanish."""
    if not text:
        return []
    parts = text.replace("\\,", "\0").split(",")
    return [part.replace("\\", "").replace("\0", ",") for part in parts]


def _rc_words(home: str) -> list[str]:
    """Read the `key=value` lines of ~/.xe; one bad line and the whole file is ignored, with a warning."""
    try:
        with open(f"{home}/.xe", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - pathlib costs the client its start
            lines = [line for line in file.read().split("\n") if line]
    except OSError:
        return []
    if any("=" not in line for line in lines):
        sys.stderr.write("Error parsing rc file. No defaults loaded\n")
        return []
    return lines


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise Refused("Port number must be an integer (0-65535)\n", code=0, usage=True)


def _boolean(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise Refused('Unhandled exception\nInvalid_argument("bool_of_string")\n', code=1)


def _password_file(name: str) -> tuple[str, str]:
    try:
        with open(name, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - pathlib costs the client its start
            lines = file.read().removesuffix("\n").split("\n")
    except OSError:
        raise Refused(f"Error opening password file '{name}'\n", code=1) from None
    if len(lines) < 2:
        raise Refused(
            "Error: password file format: expecting username on the first line, password on the second line\n",
            code=1,
        )
    return lines[0], lines[1]
