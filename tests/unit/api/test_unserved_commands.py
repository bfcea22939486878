"""Commands of the reference that poolnet does not carry out say so, as the API does for messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolnet.xe.commands.command import Selects
from poolnet.xe.commands.run import run
from poolnet.xe.commands.unserved import COMMANDS
from tests.golden.xe_world import Terminal
from tests.in_process import InProcess, with_server
from tests.unit.api.test_cli_calls import login_of, xe

NOT_THERE = "This function does not exist here.\nfunction: "
ANSWERED = {"host-license-view", "host-all-editions"}  # read what the database has


def test_they_are_refused_as_not_implemented(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        found = await xe(server, "host-list", "--minimal", "username=root", "password=secret")
        host = found.out.strip()
        await xe(server, "vm-create", "name-label=vm")
        texts = {"host-uuid": host, "host-uuids": host, "host": host, "ca": "true", "ldaps": "true"}
        for command in COMMANDS:
            words = [
                f"{name}={texts.get(name, host if name == 'uuid' else 'x')}" for name in command.required
            ]
            if command.selects is Selects.VM:
                words.append("vm=vm")
            said = Terminal(files={"x": b"content"})
            await run([command.name, *words, "force=true"], said, login_of(server))
            if command.name in ANSWERED:
                assert (said.code, said.err) == (0, ""), command.name
            else:
                assert said.code == 1, command.name
                assert said.err.startswith(NOT_THERE), (command.name, said.err)

    with_server(tmp_path, body)


@pytest.mark.parametrize(
    "words",
    [
        ("pool-restore-database", "file-name=x"),
        ("host-enable-external-auth", "host-uuid=x", "auth-type=AD", "service-name=s"),
    ],
)
def test_what_must_be_forced_says_so_first(tmp_path: Path, words: tuple[str, ...]) -> None:
    async def body(server: InProcess) -> None:
        said = await xe(server, *words)
        assert said.code == 1
        assert "--force" in said.err

    with_server(tmp_path, body)


def test_a_vm_is_installed_from_a_template(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        template = (await xe(server, "vm-create", "name-label=Debian")).out.strip()
        await xe(server, "template-param-set", f"uuid={template}", "is-a-template=true")
        for words in (f"template={template}", "template=Debian", "template-name-label=Debian"):
            made = await xe(server, "vm-install", "new-name-label=web", words)
            assert (made.code, made.err) == (0, ""), words
            uuid = f"uuid={made.out.strip()}"
            name = await xe(server, "vm-param-get", uuid, "param-name=is-a-template")
            assert name.out.strip() == "false"
            text = await xe(server, "vm-param-get", uuid, "param-name=name-description")
            assert text.out.strip() == "Installed via xe CLI"
        missing = await xe(server, "vm-install", "new-name-label=web", "template=nope")
        assert missing.err == "Error: No templates matched\n"

    with_server(tmp_path, body)


def test_an_installation_that_fails_leaves_no_vm(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        template = (await xe(server, "vm-create", "name-label=Debian")).out.strip()
        await xe(server, "template-param-set", f"uuid={template}", "is-a-template=true")
        words = ("new-name-label=web", "template=Debian", "copy-bios-strings-from=nope")
        failed = await xe(server, "vm-install", *words)
        assert failed.code == 1
        assert (await xe(server, "vm-list", "name-label=web", "--minimal")).out.strip() == ""

    with_server(tmp_path, body)
