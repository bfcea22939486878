"""A pool that lives in a file: what the golden cases and unit tests of `xe` run their commands against.

Records come from JSON and get the model's defaults for what they leave out. Implicit messages work on them; the others
are answered from a script, and everything that changes something is noted.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from poolnet.model.errors import Failure, handle_invalid, map_duplicate_key, uuid_invalid
from poolnet.model.registry import CLASSES, ENUMS
from poolnet.model.types import DateTimeT, EnumT, MapT, SetT, Value, WireType
from poolnet.xe.caller import Caller
from poolnet.xe.client import LoadRefused

CONDITION = re.compile(r'\(field "(\w+)"="([^"]*)"\)')


def value_of(wire_type: WireType, value: Any) -> Any:
    """Turn what JSON has into what the API would answer in this process."""
    match wire_type:
        case EnumT(name):
            return ENUMS[name](value)
        case DateTimeT():
            return datetime.strptime(value, "%Y%m%dT%H:%M:%SZ").replace(tzinfo=UTC)
        case SetT(item):
            return tuple(value_of(item, each) for each in value)
        case MapT(_, item):
            return {key: value_of(item, each) for key, each in value.items()}
        case _:
            return value


class World:
    """The API as a command sees it, and a login to it."""

    def __init__(
        self, records: Mapping[str, Mapping[str, Mapping[str, Any]]], answers: Sequence[Mapping[str, Any]]
    ) -> None:
        self.records: dict[str, dict[str, dict[str, Any]]] = {}
        for cls, objects in records.items():
            self.records[cls] = {ref: self._complete(cls, given) for ref, given in objects.items()}
        self.answers = list(answers)
        self.calls: list[str] = []
        self.asked: list[str] = []
        self.sessions: list[str] = []

    @staticmethod
    def _complete(cls: str, given: Mapping[str, Any]) -> dict[str, Any]:
        return {
            field.name: value_of(field.wire_type, given[field.name]) if field.name in given else field.default
            for field in CLASSES[cls].fields
        }

    async def login(self, user: str, password: str, *, local: bool) -> Caller:
        """Let root in with any password, and nobody else."""
        self.sessions.append("local" if local else "login")
        if user != "root":
            raise Failure("SESSION_AUTHENTICATION_FAILED", user, "no")
        return self

    async def resume(self, session: str) -> Caller:
        """Know one session."""
        if session != "OpaqueRef:session":
            raise Failure("SESSION_INVALID", session)
        return self

    def logout(self, caller: Caller) -> None:
        """Note it."""
        self.sessions.append("logout")

    def confirming(self, caller: Caller, within_s: float) -> Caller:
        """The same world; its calls say that they want confirmations."""
        self.sessions.append(f"confirming within {within_s:g} s")
        return caller

    async def dry_run(self, caller: Caller, body: Callable[[Caller], Awaitable[None]]) -> str:
        """Run the body and print its calls in place of a plan."""
        before = len(self.calls)
        await body(self)
        planned = self.calls[before:]
        del self.calls[before:]
        return "".join(f"would call {line}\n" for line in planned)

    async def call(self, method: str, *args: Value) -> Value:
        """Answer from the script if it is its turn, else from the records."""
        self.asked.append(method)
        if self.answers and self.answers[0]["call"] == method:
            answer = self.answers.pop(0)
            self._note(method, args)
            if "failure" in answer:
                raise Failure(*answer["failure"])
            for cls, objects in answer.get("then", {}).items():
                for ref, given in objects.items():
                    self.records.setdefault(cls, {})[ref] = self._complete(cls, given)
            got: Value = answer.get("answer")
            return tuple(got) if isinstance(got, list) else got
        cls, _, name = method.partition(".")
        if cls not in CLASSES or name not in CLASSES[cls].messages:
            raise Failure("MESSAGE_METHOD_UNKNOWN", method)
        return self._implicit(cls, name, method, args)

    def _implicit(self, cls: str, name: str, method: str, args: tuple[Value, ...]) -> Value:
        objects = self.records.get(cls, {})
        match name:
            case "get_all":
                return tuple(objects)
            case "get_all_records":
                return {ref: dict(record) for ref, record in objects.items()}
            case "get_all_records_where":
                wanted = CONDITION.findall(str(args[0]))
                return {
                    ref: dict(record)
                    for ref, record in objects.items()
                    if not wanted or any(record[field.replace("__", "_")] == value for field, value in wanted)
                }
            case "get_by_uuid":
                for ref, record in objects.items():
                    if record["uuid"] == args[0]:
                        return ref
                raise uuid_invalid(cls, str(args[0]))
            case "get_by_name_label":
                return tuple(ref for ref, record in objects.items() if record["name_label"] == args[0])
        ref = str(args[0]) if args else ""
        if ref not in objects:
            raise handle_invalid(cls, ref)
        record = objects[ref]
        if name == "get_record":
            return dict(record)
        if name.startswith("get_") and name[4:] in record:
            value: Value = record[name[4:]]
            return value
        self._note(method, args)
        return self._change(cls, ref, record, name, args)

    def _change(
        self, cls: str, ref: str, record: dict[str, Any], name: str, args: tuple[Value, ...]
    ) -> Value:
        for prefix in ("set_", "add_to_", "remove_from_", "add_", "remove_"):
            field = name.removeprefix(prefix)
            if name.startswith(prefix) and field in record:
                break
        else:
            raise Failure("NOT_IMPLEMENTED", f"{cls}.{name}")
        match prefix:
            case "set_":
                record[field] = args[1]
            case "add_to_":
                if args[1] in record[field]:
                    raise map_duplicate_key(cls, field, ref, str(args[1]))
                record[field] = {**record[field], args[1]: args[2]}
            case "remove_from_":
                record[field] = {key: value for key, value in record[field].items() if key != args[1]}
            case "add_":
                record[field] = (*record[field], args[1])
            case _:
                record[field] = tuple(each for each in record[field] if each != args[1])
        return None

    def _note(self, method: str, args: tuple[Value, ...]) -> None:
        self.calls.append(" ".join([method, *(_shown(each) for each in args)]))


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    return str(value)


class Terminal:
    """The thin client as the reference's behaves: what it would have written, and its exit code."""

    def __init__(self, typed: str = "", files: Mapping[str, bytes] | None = None) -> None:
        self._printed: list[str] = []
        self.err = ""
        self.code: int | None = None
        self._typed = typed.splitlines()
        self._files = files or {}

    @property
    def out(self) -> str:
        """What stdout has."""
        return "".join(self._printed)

    async def print(self, text: str) -> None:
        """Write a line."""
        self._printed.append(f"{text}\n")

    async def print_error(self, text: str) -> None:
        """Write to stderr as it is."""
        self.err += text

    async def error(self, code: str, params: Sequence[str]) -> None:
        """Write the two lines of an error."""
        self.err += f"Error code: {code}\nError parameters: {', '.join(params)}\n"

    async def prompt(self) -> str:
        """Give the next typed line."""
        return self._typed.pop(0)

    async def load(self, name: str) -> bytes:
        """Give a file."""
        if name not in self._files:
            raise LoadRefused(name)
        return self._files[name]

    async def download(self, name: str, url: str) -> bool:
        """Fetch nothing: there is no server."""
        return False

    async def exit(self, code: int) -> None:
        """Obey the first one."""
        self.code = code if self.code is None else self.code
