"""ホスト名: changing a host's name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.manual.console import HOST, Console

pytestmark = pytest.mark.lab

COMMAND = "xe host-set-hostname-live host-uuid=host_uuid host-name=host-name"


@pytest.fixture
def renamed(console: Console) -> Iterator[Console]:
    """A host that gets its name back."""
    yield console
    console.type(COMMAND, host_uuid=console.host, host_name=HOST)


def test_the_name_reaches_the_control_domain(renamed: Console) -> None:
    renamed.type(COMMAND, host_uuid=renamed.host, host_name="tokyo-1.example.org")
    assert renamed.param("host", renamed.host, "hostname") == "tokyo-1.example.org"
    assert renamed.run("hostname").strip() == "tokyo-1.example.org"
    control_domain = renamed.xe("vm-list", "is-control-domain=true", "params=name-label", "--minimal")
    assert control_domain == "Control domain on host: tokyo-1.example.org"


def test_a_name_that_is_none_is_refused(renamed: Console) -> None:
    said = renamed.refused(COMMAND, host_uuid=renamed.host, host_name="tokyo_1")
    assert "hostname contains invalid characters" in said
    assert renamed.run("hostname").strip() == HOST
