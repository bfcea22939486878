"""How is a value written on the command line? (spec xe-cli §3.4, §6.0) The field tables and some commands ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

from poolnet.model.registry import ENUMS
from poolnet.model.types import Value
from poolnet.xe.refusals import Refused

NOT_IN_DATABASE: Final = "<not in database>"
INVALID_REFERENCE: Final = "<invalid reference>"
EXPENSIVE: Final = "<expensive field>"
UNKNOWN_TIME: Final = "<unknown time>"
UNKNOWN: Final = "<unknown>"
INCONSISTENT: Final = "<inconsistent>"
NOT_SET: Final = "<not set>"

Texts: TypeAlias = str | tuple[str, ...] | Mapping[str, str]
"""What a field says: a text, the texts of its items, or those of its keys and values."""


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Writes rows of as many texts each as lines, with every column as wide as its longest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def joined(texts: Texts, separator: str = "; ") -> str:
    """Write a field's texts on one line; maps as "key: value"."""
    if isinstance(texts, str):
        return texts
    if isinstance(texts, Mapping):
        return separator.join(f"{key}: {value}" for key, value in texts.items())
    return separator.join(texts)


def boolean(value: Value) -> str:
    """Write a boolean."""
    return "true" if value else "false"


def decimals(value: Value) -> str:
    """Write a float with three decimals."""
    return f"{value:.3f}" if isinstance(value, int | float) else str(value)


def moment(value: Value) -> str:
    """Write a moment in UTC, to the second."""
    if not isinstance(value, datetime):
        return str(value)
    return value.astimezone(UTC).strftime("%Y%m%dT%H:%M:%SZ")


def enum_text(enum: str, value: str) -> str:
    """Write an enum's value; most are written as the API does, some otherwise (spec xe-cli §6.0)."""
    show = _SHOWN_OTHERWISE.get(enum)
    return show(value) if show else str(value)


def enum_value(enum: str, text: str) -> str:
    """Read an enum's value in the API's spelling, in any case.

    Raises:
        Refused: it is none.
    """
    members = list(ENUMS[enum])
    for member in members:
        if member.value.lower() == text.lower():
            return member
    expected = ", ".join(f"'{member.value}'" for member in members)
    raise Refused(f"Expected one of {expected}, got {text.lower()}")


def _lower_first(value: str) -> str:
    return value[:1].lower() + value[1:]


def _words(value: str) -> str:
    words = value.replace("coredump", "core_dump").replace("_", " ")
    return words[:1].upper() + words[1:]


def _host_operation(value: str) -> str:
    return f"VM.{value[3:]}" if value in ("vm_start", "vm_resume", "vm_migrate") else value


def _storage_operation(value: str) -> str:
    prefix, underscore, rest = value.partition("_")
    return f"{prefix.upper()}.{rest}" if underscore and prefix in ("vdi", "pbd") else value


def _vm_operation(value: str) -> str:
    if value in ("changing_VCPUs", "changing_memory_limits", "query_services", "create_template"):
        return "(unknown operation)"
    return {"assert_operation_valid": "assertoperationvalid", "data_source_op": "data_sources_op"}.get(
        value, value
    )


def _tristate(value: str) -> str:
    return {"yes": "true", "no": "false"}.get(value, value)


def _domain_type(value: str) -> str:
    return value.replace("_", "-")


_SHOWN_OTHERWISE: Final[Mapping[str, Callable[[str], str]]] = {
    "vm_power_state": _lower_first,
    "host_allowed_operations": _host_operation,
    "storage_operations": _storage_operation,
    "vm_operations": _vm_operation,
    "task_allowed_operations": _words,
    "on_normal_exit": _words,
    "on_softreboot_behavior": _words,
    "on_crash_behaviour": _words,
    "tristate_type": _tristate,
    "domain_type": _domain_type,
}
