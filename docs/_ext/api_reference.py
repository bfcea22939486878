"""Writes the API reference, and the page of messages that are not implemented, from the model's declarations.

Sphinx runs it before it reads the sources; `python docs/_ext/api_reference.py` writes the one page that is kept in
the repository, so that it can be read without a build.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poolnet.api.surface import implemented
from poolnet.model.declare import ClassDecl, MessageDecl
from poolnet.model.registry import CLASSES, MESSAGES
from poolnet.model.types import wire_type_text

DOCS = Path(__file__).parent.parent
NOT_IMPLEMENTED = DOCS / "reference" / "not-implemented.md"
GENERATED = DOCS / "reference" / "generated"


def not_implemented_page() -> str:
    """The page that lists what answers NOT_IMPLEMENTED, class by class."""
    lines = [
        "# Messages that are not implemented",
        "",
        "Generated from the declarations by `make reference`. These messages of the 28 classes are declared, checked",
        "for parameters, session and role like all others, and then answer `NOT_IMPLEMENTED[message]`.",
        "",
    ]
    missing = [message for message in MESSAGES.values() if not implemented(message)]
    lines += [f"{len(missing)} of {len(MESSAGES)} messages.", ""]
    for name in CLASSES:
        names = sorted(message.name for message in missing if message.cls == name)
        if names:
            lines += [f"## {name}", "", ", ".join(f"`{each}`" for each in names), ""]
    return "\n".join(lines)


def class_page(decl: ClassDecl) -> str:
    """The page of one class: its fields and its messages."""
    lines = [f"# {decl.name}", "", decl.doc, "", "## Fields", ""]
    lines += ["| field | type | | since | meaning |", "|---|---|---|---|---|"]
    for field in decl.fields:
        kind = wire_type_text(field.wire_type)
        lines.append(f"| `{field.name}` | `{kind}` | {field.qualifier} | {field.since} | {_cell(field.doc)} |")
    lines += ["", "## Messages", "", "| message | answers | least role | meaning |", "|---|---|---|---|"]
    lines += list(_message_rows(decl))
    return "\n".join(lines) + "\n"


def _message_rows(decl: ClassDecl) -> Iterator[str]:
    for message in sorted(decl.messages.values(), key=lambda m: (not m.explicit, m.name)):
        params = ", ".join(f"{p.name}: {wire_type_text(p.wire_type)}" for p in message.params)
        role = message.min_role.value if message.min_role is not None else "local root"
        doc = _cell(message.doc) + ("" if implemented(message) else " *Not implemented.*")
        lines = f"| `{message.name}({params})` | `{wire_type_text(message.result)}` | {role} | {doc} |"
        yield lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def write_reference() -> None:
    """Writes the pages of all classes."""
    GENERATED.mkdir(parents=True, exist_ok=True)
    for decl in CLASSES.values():
        (GENERATED / f"{decl.name}.md").write_text(class_page(decl))


def setup(app: Any) -> dict[str, bool]:
    """Connects to Sphinx."""
    app.connect("builder-inited", lambda _: write_reference())
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    NOT_IMPLEMENTED.write_text(not_implemented_page())
