"""What does a member run? Its door, its copy of the database, and the way to the coordinator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from poolnet.api.answer import Origin
from poolnet.api.certificate_calls import certify
from poolnet.api.config import rooted
from poolnet.api.credentials import Credentials
from poolnet.api.directory import SystemDirectory
from poolnet.api.host_certificates import renew_certificates
from poolnet.api.member_calls import MemberCalls, MemberLogin
from poolnet.api.parts import PamThroughHostd, Parts
from poolnet.api.pool_door import PoolDoor
from poolnet.api.sessions import Sessions
from poolnet.model.types import NULL
from poolnet.pool import pki
from poolnet.pool.door import MemberDoor
from poolnet.pool.hostlink import HostLink
from poolnet.pool.member import Member
from poolnet.pool.pace import Pace
from poolnet.pool.start import host_uuid
from poolnet.xe.client import Client
from poolnet.xe.commands.run import run as run_command

HURRY_S: Final = 0.05  # for calls under way when nobody is waited for; 0 would be without an end


def hear_turn(parts: Parts, member: Member) -> None:
    """Takes the role over if it is this host's turn at the database's cluster, or follows whose turn it is."""
    seat, office = parts.place.seat, parts.office
    if seat is None or seat.turn is None or not seat.turn.ready:
        return
    if seat.is_ours:
        # Calls that were passed on to a coordinator that is gone have no answer to wait for; one that hands over answers.
        office.start_anew(office.role, 0.0, grace_s=None if seat.named else HURRY_S)
    elif seat.turn.holder not in ("", seat.host):
        member.hear_of(seat.turn.holder, seat.turn.address, seat.turn.term)


async def start_member(parts: Parts) -> None:
    """Starts to serve as a member; its coordinator need not be there."""
    config, office, database = parts.config, parts.office, parts.database
    state_dir = office.state_dir
    files = pki.pool_files(state_dir)
    uuid = host_uuid(state_dir)
    link = HostLink(rooted(config.hostd_socket))
    parts.stack.push_async_callback(link.close)
    member = Member(
        state_dir=state_dir,
        database=database,
        role=office.role,
        host_uuid=uuid,
        port=config.pool_port,
        users_file=state_dir / "users.toml",
        become=office.become,
        pace=Pace(config.pool_silence_s),
        site=parts.place.site(office),
    )
    sessions = Sessions(
        database=database,
        credentials=Credentials(state_dir / "users.toml", PamThroughHostd(link)),
        directory=SystemDirectory(),
        this_host=NULL,
        clock=parts.clock,
    )
    calls = MemberCalls(
        database=database,
        member=member,
        sessions=sessions,
        files=files,
        auditor=parts.auditor,
        certificates=parts.certificates,
        place=parts.place,
        office=office,
        daemon=link,
    )
    door = PoolDoor(
        MemberDoor(member, database, uuid, rooted(config.hostd_socket), partial(certify, parts.certificates)),
        files,
        config.listen,
        config.pool_port,
    )
    parts.certificates.on_refresh(door.renew)
    member.on_trust(parts.place.files.authorities_changed)
    member.on_trust(door.renew)
    member.on_trust(door.drop_revoked)
    parts.stack.push_async_callback(parts.background.stop)
    parts.stack.push_async_callback(door.close)
    parts.stack.push_async_callback(lambda: parts.server.close(parts.office.grace_s))
    door.open()

    async def run_cli(words: Sequence[str], client: Client, origin: Origin) -> None:
        await run_command(words, client, MemberLogin(calls, sessions, member, parts.background, origin))

    parts.gate.open(calls, run_cli, calls.relay, audit_log=calls.audit_log)
    parts.background.start(member.follow(), "member")
    parts.place.listen(lambda: hear_turn(parts, member))
    parts.background.start(parts.place.follow_leases(database), "leases")
    parts.background.start(renew_certificates(parts.certificates), "certificates")
