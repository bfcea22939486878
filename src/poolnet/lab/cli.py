"""The `poolnet` program: which words of the command line do what? Every lab command of design §6, and what is done at a host's console."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from poolnet.lab import console, datapath, life, state

USUAL_HOSTS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it succeeded, 1 when it could not be done, 2 when the words make no sense."""
    words = list(sys.argv[1:] if argv is None else argv)
    command: list[str] = []
    if "--" in words:
        command = words[words.index("--") + 1 :]
        words = words[: words.index("--")]
    arguments = _parser().parse_args(words)
    arguments.command = command
    try:
        return _dispatch(arguments)
    except state.LabError as error:
        sys.stderr.write(f"poolnet: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _dispatch(arguments: argparse.Namespace) -> int:
    if arguments.program == "init":
        from poolnet.lab import standalone

        return standalone.main(arguments)
    if arguments.program == "upgrade":
        from poolnet.lab import standalone

        return standalone.upgrade()
    if arguments.program == "tour":
        from poolnet.lab import tour

        return tour.main(arguments.name)
    if arguments.program == "bonds":
        from poolnet.lab import bonds

        return bonds.main(as_json=arguments.json)
    if arguments.program == "audit":
        from poolnet.lab import audit

        return audit.show() if arguments.action == "show" else audit.verify(arguments.head)
    if arguments.program == "drift":
        from poolnet.lab import drift

        return drift.main(as_json=arguments.json)
    if arguments.program.startswith("cluster-"):
        from poolnet.xe import thin

        return thin.main([f"pool-{arguments.program}", *cluster_words(arguments)])
    if arguments.program == "host-reset-network":
        from poolnet.lab import reset

        return reset.main()
    if arguments.program == "switch-network-backend":
        from poolnet.lab import switch_backend

        return switch_backend.main(arguments.backend, arguments.confirm_within)
    _lab(arguments)
    return 0


def _lab(arguments: argparse.Namespace) -> None:
    """Carry out a lab command. Raises LabError."""
    name = arguments.name
    match arguments.action:
        case "up":
            hosts, nics = _size(arguments.hosts, arguments.nics)
            kind = {"backend": arguments.backend, "datapath_type": arguments.datapath}
            pool, simulate = arguments.pool, arguments.simulate
            lab = asyncio.run(life.up(name, hosts=hosts, nics=nics, **kind, pool=pool, simulate=simulate))
            sys.stdout.write(f"{lab.directory / 'lab.json'}\n")
        case "info":
            sys.stdout.write(json.dumps(console.info(state.load(name)), indent=2) + "\n")
        case "exec":
            console.execute(state.load(name), arguments.host, arguments.command)
        case "guest-exec":
            console.execute_in_guest(state.load(name), arguments.vm, arguments.command)
        case "capture":
            console.capture(state.load(name), arguments.host, arguments.device, arguments.command)
        case _:
            asyncio.run(_change(arguments))


def _counts(text: str) -> tuple[int, ...]:
    """Numbers between commas. Raises ValueError."""
    return tuple(int(word) for word in text.split(","))


def _size(hosts: int | None, nics: tuple[int, ...]) -> tuple[int, int | tuple[int, ...]]:
    """Hosts, and NICs of all or of each of them: a list of numbers says how many hosts there are, if nothing else does."""
    if len(nics) == 1:
        return USUAL_HOSTS if hosts is None else hosts, nics[0]
    return len(nics) if hosts is None else hosts, nics


async def _change(arguments: argparse.Namespace) -> None:
    """Carry out a command that changes a lab. Raises LabError."""
    name = arguments.name
    match arguments.action:
        case "down":
            await life.down(name)
        case "link":
            await life.set_link(name, arguments.host, arguments.nic, plugged=arguments.state == "up")
        case "bundle":
            await life.bundle(name, arguments.host, arguments.nics, fallback=not arguments.no_fallback)
        case "separate":
            await life.separate(name, arguments.host, arguments.nic)
        case "nic-add":
            await life.add_nic(name, arguments.host, arguments.nic)
        case "nic-remove":
            await life.remove_nic(name, arguments.host, arguments.nic)
        case "reboot":
            await life.reboot(name, arguments.host, hard=arguments.hard)
        case "partition":
            await life.partition(name, arguments.host)
        case "heal":
            await life.heal(name, arguments.host)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="poolnet", description="Pool-wide network management for Linux hosts."
    )
    programs = parser.add_subparsers(dest="program", required=True, metavar="PROGRAM")
    lab = programs.add_parser("lab", help="a data centre in network namespaces on this machine")
    actions = lab.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=text, description=text)
        one.add_argument("--name", default="lab", help="the lab's name (default: lab)")
        return one

    up = action("up", "start a lab and wait until every host serves")
    up.add_argument("--hosts", type=int, help=f"default: {USUAL_HOSTS}, or as many as --nics names")
    up.add_argument(
        "--nics",
        type=_counts,
        default=(4,),
        metavar="N[,N…]",
        help="NICs of every host, or of each of them (default: 4)",
    )
    up.add_argument("--backend", choices=life.BACKENDS, default="openvswitch")
    up.add_argument(
        "--datapath",
        choices=datapath.DATAPATHS,
        default="",
        help="of Open vSwitch: in the kernel, or in its own process (default: in the kernel if it can)",
    )
    up.add_argument("--pool", action="store_true", help="join the hosts to one pool")
    up.add_argument(
        "--simulate",
        action="store_true",
        help=f"simulate the hosts, up to {life.SIMULATED_HOSTS_MAX}, in one pool and in the memory of one process",
    )
    action("down", "remove a lab, leaving nothing behind")
    action("info", "print what is in the lab, as JSON")
    action("exec", "run a command on a host's console: exec HOST -- COMMAND …").add_argument("host")
    action("guest-exec", "run a command inside a running VM: guest-exec VM -- COMMAND …").add_argument("vm")
    link = action("link", "pull or plug a cable")
    link.add_argument("host")
    link.add_argument("nic")
    link.add_argument("state", choices=("up", "down"))
    bundle = action("bundle", "let the switch treat cables as one LAG that speaks LACP")
    bundle.add_argument("host")
    bundle.add_argument("nics", nargs="+", metavar="nic")
    bundle.add_argument(
        "--no-fallback", action="store_true", help="carry nothing while the host does not speak LACP"
    )
    for name, text in (
        ("separate", "let the switch treat the cables of a NIC's LAG each by itself"),
        ("nic-add", "put a NIC into a host"),
        ("nic-remove", "take a NIC out of a host"),
    ):
        nic = action(name, text)
        nic.add_argument("host")
        nic.add_argument("nic")
    reboot = action("reboot", "reboot a host")
    reboot.add_argument("host")
    reboot.add_argument("--hard", action="store_true", help="as if the power was cut")
    action("partition", "cut a host off the management network").add_argument("host")
    action("heal", "undo partition").add_argument("host")
    capture = action("capture", "tcpdump at a host's NIC or VIF: capture HOST DEVICE -- FILTER")
    capture.add_argument("host")
    capture.add_argument("device", help="a device of the host, or a VIF's uuid")

    tour = programs.add_parser("tour", help="start a lab and show what poolnet does, in a minute")
    tour.add_argument("--name", default="lab", help="the lab's name (default: lab)")
    _add_init(programs.add_parser("init", help="turn this Debian machine into a standalone poolnet host"))
    programs.add_parser("upgrade", help="install this version on a poolnet host, and restart its services")
    _add_cluster(programs)
    reset = programs.add_parser(
        "host-reset-network",
        help="at a host's console: give it its last good network back, without the API server",
    )
    bonds = programs.add_parser(
        "bonds", help="at a host's console: what its bonds do, and their LACP partners"
    )
    _add_audit(programs.add_parser("audit", help="at a host's console: the log of who did what"))
    drift = programs.add_parser(
        "drift",
        help="at a host's console: what somebody else has changed in its network, without the API server",
    )
    drift.add_argument("--json", action="store_true", help="as JSON, for programs")
    bonds.add_argument("--json", action="store_true", help="as JSON, for programs")
    reset.add_argument("--to", choices=("last-good",), default="last-good", help="the last confirmed network")
    switch = programs.add_parser(
        "switch-network-backend",
        help="at a host's console: let Open vSwitch or the Linux bridge carry out its network",
    )
    switch.add_argument("backend", choices=("bridge", "openvswitch"))
    switch.add_argument(
        "--confirm-within",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="go back unless the host can be reached by then (default: %(default)g)",
    )
    return parser


def _add_audit(audit: argparse.ArgumentParser) -> None:
    actions = audit.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("show", help="print it, a record a line")
    verify = actions.add_parser(
        "verify", help="look whether any record was altered, moved, taken out or cut off; 1 if so"
    )
    verify.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="NUMBER:HASH",
        help="an end of the log that was noted elsewhere, as this command prints it (may be repeated)",
    )


def cluster_words(arguments: argparse.Namespace) -> list[str]:
    """What follows the command of `xe` that does the same."""
    if arguments.program == "cluster-enable":
        return [f"host-uuids={','.join(arguments.hosts)}"] if arguments.hosts else []
    if arguments.program in ("cluster-add", "cluster-remove"):
        return [f"host-uuid={arguments.host}"]
    return ["--json"] if arguments.program == "cluster-status" and arguments.json else []


def _add_cluster(programs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    enable = programs.add_parser(
        "cluster-enable",
        help="at a host's console: move the pool's database to a cluster of servers on three or five hosts",
    )
    enable.add_argument(
        "hosts", nargs="*", metavar="UUID", help="the hosts (default: the coordinator and two more)"
    )
    programs.add_parser(
        "cluster-disable", help="at a host's console: take the pool's database back to the coordinator alone"
    )
    status = programs.add_parser(
        "cluster-status", help="at a host's console: how the database's cluster is, and who is coordinator"
    )
    status.add_argument("--json", action="store_true", help="as JSON, for programs")
    add = programs.add_parser(
        "cluster-add", help="at a host's console: give one more host a server of the cluster"
    )
    add.add_argument("host", metavar="UUID")
    remove = programs.add_parser(
        "cluster-remove",
        help="at a host's console: take a host's server out of the cluster, also one that is lost",
    )
    remove.add_argument("host", metavar="UUID")


def _add_init(init: argparse.ArgumentParser) -> None:
    init.add_argument("--management", metavar="NIC", help="the NIC of the management interface")
    init.add_argument(
        "--nics", metavar="NIC,NIC…", help="all NICs that poolnet may use (no other is ever touched)"
    )
    init.add_argument(
        "--vlan", type=int, default=-1, help="the VLAN of the management interface (default: untagged)"
    )
    init.add_argument(
        "--address", metavar="A.B.C.D/LEN|dhcp", help="its address (default: what the NIC has now)"
    )
    init.add_argument("--gateway", default="", help="its gateway")
    init.add_argument("--dns", default="", metavar="A,B", help="its DNS servers")
    init.add_argument("--backend", choices=life.BACKENDS, default="openvswitch")
    init.add_argument(
        "--guests", choices=("libvirt", "none"), help="what runs VMs (default: libvirt, if it is there)"
    )
    init.add_argument("--yes", action="store_true", help="ask nothing")
    init.add_argument("--start", action="store_true", help="start the services as well")
    init.add_argument(
        "--in-place", action="store_true", help="have the services run from this directory (for developers)"
    )


if __name__ == "__main__":
    sys.exit(main())
