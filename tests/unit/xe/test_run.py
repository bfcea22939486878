"""In which order a request is checked, who logs in and out, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from poolnet.xe.caller import Caller
from poolnet.xe.commands.catalog import COMMANDS
from poolnet.xe.commands.help import wrapped
from poolnet.xe.commands.run import run
from tests.golden.xe_world import Terminal, World

PIF = {"OpaqueRef:pif": {"uuid": "u1", "device": "eth0"}}


def carry_out(words: Sequence[str], world: World | None = None) -> tuple[Terminal, World]:
    terminal, world = Terminal(), world or World({"PIF": PIF}, [])
    asyncio.run(run(words, terminal, world))
    return terminal, world


def test_bad_credentials_never_mask_an_unknown_command_or_a_missing_parameter() -> None:
    for words in (["nope"], ["pif-plug"]):
        terminal, world = carry_out([*words, "username=eve"])
        assert "Authentication failed" not in terminal.err
        assert world.sessions == []


def test_a_refused_login_says_so() -> None:
    terminal, _ = carry_out(["pif-list", "username=eve", "password=x"])
    assert terminal.err == "Authentication failed\nFor usage run: 'xe help'\n"
    assert terminal.code == 1


def test_an_empty_user_name_is_named() -> None:
    terminal, _ = carry_out(["pif-list", "username=", "password="])
    assert terminal.err == "Username/password must be specified\nFor usage run: 'xe help'\n"


def test_a_session_is_closed_after_success_and_after_failure() -> None:
    for words in (["pif-list"], ["pif-plug", "uuid=nope"]):
        _, world = carry_out([*words, "username=root"])
        assert world.sessions == ["login", "logout"]


def test_a_session_is_closed_when_the_client_has_its_answer() -> None:
    class Watched(World):
        def logout(self, caller: Caller) -> None:
            super().logout(caller)
            assert (terminal.out, terminal.code) == ("u1\n", 0)

    terminal, world = Terminal(), Watched({"PIF": PIF}, [])
    asyncio.run(run(["pif-list", "--minimal", "username=root"], terminal, world))
    assert world.sessions == ["login", "logout"]


def test_a_given_session_is_used_and_left_open() -> None:
    terminal, world = carry_out(["session_id=OpaqueRef:session\r", "pif-list\r", "--minimal\r"])
    assert (terminal.out, terminal.code) == ("u1\n", 0)
    assert world.sessions == []


def test_an_unknown_session_is_an_error_of_the_api() -> None:
    terminal, _ = carry_out(["session_id=OpaqueRef:other", "pif-list"])
    assert terminal.code == 1
    assert "OpaqueRef:other" in terminal.err


def test_only_a_member_that_has_lost_its_coordinator_takes_over_without_force() -> None:
    command = ["pool-emergency-transition-to-master", "username=root"]
    is_member: dict[str, object] = {"call": "pool.is_slave", "answer": True}
    is_lost: dict[str, object] = {"call": "host.is_in_emergency_mode", "answer": True}
    takes_over: dict[str, object] = {"call": "pool.emergency_transition_to_master"}
    for words, answers in (
        (command, [is_member, is_lost, takes_over]),
        ([*command, "--force"], [takes_over]),
    ):
        terminal, world = carry_out(words, World({}, answers))
        assert "will restart and transition to master" in terminal.out
        assert world.answers == []
    terminal, _ = carry_out(command, World({}, [is_member, {**is_lost, "answer": False}]))
    assert (terminal.code, terminal.out) == (1, "")
    assert "must be forced" in terminal.err
    terminal, _ = carry_out(command, World({}, [{**is_member, "answer": False}]))
    assert terminal.code == 0
    assert "already master" in terminal.out


def test_a_local_command_takes_a_local_session() -> None:
    world = World({}, [{"call": "host.is_in_emergency_mode", "answer": False}])
    _, world = carry_out(["host-is-in-emergency-mode", "username=root"], world)
    assert world.sessions == ["local", "logout"]


def test_help_needs_no_login() -> None:
    terminal, world = carry_out(["help", "username=eve"])
    assert terminal.code == 0
    assert world.sessions == []


def test_minimal_is_strict() -> None:
    terminal, _ = carry_out(["pif-list", "minimal=yes", "username=root"])
    assert terminal.err.startswith("The server failed to handle your request, due to an internal error.")


def test_trace_adds_where_an_error_was_raised() -> None:
    terminal, _ = carry_out(["pif-plug", "uuid=nope", "--trace", "username=root"])
    assert terminal.err.startswith("The uuid you supplied was invalid.\ntype: PIF\nuuid: nope\nRaised ")
    assert "Backtrace:" in terminal.err


def test_a_long_list_is_read_with_one_call_per_class() -> None:
    networks = {f"OpaqueRef:n{number}": {"uuid": f"n{number}"} for number in range(30)}
    vms = {f"OpaqueRef:m{number}": {"uuid": f"m{number}"} for number in range(30)}
    vifs = {
        f"OpaqueRef:v{number}": {
            "uuid": f"v{number}",
            "network": f"OpaqueRef:n{number % 30}",
            "VM": f"OpaqueRef:m{number % 30}",
        }
        for number in range(1000)
    }
    terminal, world = carry_out(
        ["vif-list", "username=root"], World({"VIF": vifs, "network": networks, "VM": vms}, [])
    )
    assert terminal.out.count("vm-uuid") == 1000
    assert sorted(world.asked) == [
        "VIF.get_all_records_where",
        "VM.get_all_records",
        "network.get_all_records",
    ]


def test_a_minimal_list_looks_no_reference_up() -> None:
    vifs = {
        f"OpaqueRef:v{number}": {"uuid": f"v{number}", "VM": f"OpaqueRef:m{number}"} for number in range(9)
    }
    _, world = carry_out(["vif-list", "--minimal", "username=root"], World({"VIF": vifs}, []))
    assert world.asked == ["VIF.get_all_records_where"]


def test_the_common_commands_are_listed_by_help() -> None:
    terminal, _ = carry_out(["help"])
    headline = "\n\nCommon command list\n-------------------\n\n"
    assert headline in terminal.out
    listed = terminal.out.partition(headline)[2].replace("\n", " ").replace(",", " ").split()
    assert listed == sorted(name for name, command in COMMANDS.items() if command.common)


def test_all_visible_commands_are_listed_by_help_in_three_paragraphs() -> None:
    terminal, _ = carry_out(["help", "--all"])
    text = terminal.out.partition("\n\nFull command list\n-----------------\n\n")[2]
    paragraphs = [part.replace(",", " ").split() for part in text.split("\n    \n")]
    assert len(paragraphs) == 3
    assert {name.partition("-")[0] for name in paragraphs[0]} == {"host"}
    assert {name.partition("-")[0] for name in paragraphs[1]} == {"vm"}
    assert sorted(name for paragraph in paragraphs for name in paragraph) == sorted(
        name for name, command in COMMANDS.items() if not command.hidden
    )


def test_the_minimal_list_of_all_commands_is_one_line() -> None:
    terminal, _ = carry_out(["help", "--all", "--minimal"])
    visible = sorted(name for name, command in COMMANDS.items() if not command.hidden)
    assert terminal.out == ",".join(visible) + "\n"


def test_lists_of_names_break_before_the_comma() -> None:
    lines = wrapped(["x" * 20] * 5)
    assert lines == ["    " + ", ".join(["x" * 20] * 3), "    " + ", ".join(["x" * 20] * 2)]


def test_a_line_of_names_takes_the_next_one_up_to_74_characters() -> None:
    assert wrapped(["a" * 66, "b" * 4]) == ["    " + "a" * 66 + ", bbbb"]
    assert wrapped(["a" * 66, "b" * 5]) == ["    " + "a" * 66, "    bbbbb"]


def test_starting_a_vm_waits_for_its_task_and_destroys_it() -> None:
    task = {"OpaqueRef:task": {"uuid": "t", "status": "success", "progress": 1.0}}
    vms = {"OpaqueRef:vm": {"uuid": "m", "name_label": "web"}}
    world = World(
        {"VM": vms, "task": task},
        [{"call": "Async.VM.start", "answer": "OpaqueRef:task"}, {"call": "task.destroy"}],
    )
    terminal, world = carry_out(["vm-start", "vm=web", "progress=yes", "username=root"], world)
    assert world.calls == ["Async.VM.start OpaqueRef:vm false false", "task.destroy OpaqueRef:task"]
    assert terminal.err == "\r 100% | " + "#" * 70 + "\n\n\n"
    assert terminal.code == 0


def test_a_failed_task_is_the_commands_failure() -> None:
    task = {
        "OpaqueRef:task": {"uuid": "t", "status": "failure", "error_info": ["OPERATION_NOT_ALLOWED", "why"]}
    }
    vms = {"OpaqueRef:vm": {"uuid": "m", "name_label": "web"}}
    world = World(
        {"VM": vms, "task": task},
        [{"call": "Async.VM.start", "answer": "OpaqueRef:task"}, {"call": "task.destroy"}],
    )
    terminal, _ = carry_out(["vm-start", "vm=web", "username=root"], world)
    assert terminal.err == "You attempted an operation that was not allowed.\nreason: why\n"
    assert terminal.code == 1


def test_a_change_is_confirmed_within_the_time_that_is_asked_for() -> None:
    for words, expected in (
        (["--confirm-within=5"], ["login", "confirming within 5 s", "logout"]),
        (["--confirm-within=0"], ["login", "confirming within 0 s", "logout"]),
        ([], ["login", "logout"]),
    ):
        world = World({"PIF": PIF}, [{"call": "PIF.plug"}])
        terminal, world = carry_out(["pif-plug", "uuid=u1", *words, "username=root"], world)
        assert (terminal.err, world.sessions) == ("", expected)
        assert world.calls == ["PIF.plug OpaqueRef:pif"]


def test_a_time_that_is_none_is_refused_before_anything_is_done() -> None:
    for text in ("soon", "-1", "3601", ""):
        terminal, world = carry_out(["pif-plug", "uuid=u1", f"--confirm-within={text}", "username=root"])
        assert "confirm-within" in terminal.err
        assert (terminal.code, world.calls) == (1, [])
