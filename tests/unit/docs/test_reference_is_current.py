"""The committed part of the generated reference says what the declarations say now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from poolnet.model.registry import CLASSES

DOCS = Path(__file__).parents[3] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_reference", DOCS / "_ext" / "api_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_missing_messages_is_the_generated_one() -> None:
    committed = (DOCS / "reference" / "not-implemented.md").read_text()
    assert committed == generator().not_implemented_page(), "run: python docs/_ext/api_reference.py"


def test_every_class_has_a_page_with_all_its_fields_and_messages() -> None:
    make = generator().class_page
    assert len(CLASSES) == 29
    for decl in CLASSES.values():
        page = make(decl)
        assert all(f"| `{field.name}` |" in page for field in decl.fields)
        assert all(f"| `{name}(" in page for name in decl.messages)


def test_a_page_shows_no_field_that_clients_never_see() -> None:
    vif = CLASSES["VIF"]
    assert "reserved_pci" in {field.name for field in vif.internal_fields}
    assert "reserved_pci" not in generator().class_page(vif)


def test_a_page_lists_the_values_of_its_enums() -> None:
    page = generator().class_page(CLASSES["VIF"])
    assert "| `vif_locking_mode` | `network_default`, `locked`, `unlocked`, `disabled` |" in page
