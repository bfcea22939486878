"""Each coordinator has a CA of its own: how all hosts come to use it, and what is left of the one before."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from poolnet.api.certificate_calls import CertificateCalls, certify
from poolnet.api.host_certificates import HostCertificates
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.txn import Txn
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.pool import Pool
from poolnet.model.types import Ref
from poolnet.pool import authority, pki, wire
from poolnet.pool.authority import PoolFiles
from poolnet.pool.peer import PeerGone
from tests.unit.db.rows import a_host, a_ref, a_uuid, create
from tests.unit.pool.test_pki import a_member, meet

NAMES = ("old", "new", "third")


@dataclass
class Hosts:
    """A pool of three, each with its certificates; the first was coordinator, the second is it now."""

    directory: Path
    database: Database
    rows: dict[str, Host]
    own: dict[str, HostCertificates]
    away: set[str] = field(default_factory=set)

    def files(self, name: str) -> PoolFiles:
        return pki.pool_files(self.directory / name)

    async def ask(self, host: Ref[Host], what: wire.Certify, _: type[Any]) -> wire.Certified:
        name = next(name for name, row in self.rows.items() if row.ref == host)
        if name in self.away:
            raise PeerGone("away")
        return certify(self.own[name], what)

    async def write(self, change: Callable[[Txn], object]) -> None:
        txn = self.database.begin()
        change(txn)
        await self.database.commit(txn.changes())

    def calls(self) -> CertificateCalls:
        return CertificateCalls(
            database=self.database,
            coordinator=self,  # type: ignore[arg-type]  # only what writes
            members=self,  # type: ignore[arg-type]  # only what asks
            host=self.rows["new"].ref,
            own=self.own["new"],
        )

    def hear(self) -> None:
        """Hosts that are there hear which CAs count."""
        for name in NAMES:
            if name not in self.away and name != "new":
                authority.trust(self.files(name), self.files("new").ca.read_bytes())

    def require_all_meet(self) -> None:
        """Each host reaches each other one."""
        for one, other in itertools.permutations(NAMES, 2):
            met = asyncio.run(
                meet(pki.server_context(self.files(one)), pki.client_context(self.files(other)))
            )
            assert met == (self.rows[other].uuid, self.rows[one].uuid), (one, other)

    def issuers(self) -> dict[str, bool]:
        """Whose certificates are of the new coordinator's CA."""
        return {
            name: authority.has_issued(self.files("new"), self.files(name).certificate.read_text())
            for name in NAMES
        }


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    database = Database.open(MemoryEngine())
    metrics = {name: HostMetrics(ref=a_ref(), uuid=a_uuid(), live=True) for name in NAMES}
    rows = {name: replace(a_host(name), metrics=metrics[name].ref) for name in NAMES}
    create(database, *metrics.values(), *rows.values())
    pki.make_pool(pki.pool_files(tmp_path / "old"), a_uuid(), rows["old"].uuid, datetime.now(UTC))
    first = pki.pool_files(tmp_path / "old")
    for name in NAMES[1:]:
        a_member(first, pki.pool_files(tmp_path / name).directory, rows[name].uuid)
    own = {
        name: HostCertificates(
            tmp_path / name / "tls",
            pki.pool_files(tmp_path / name),
            names=[name],
            addresses=[],
            host_uuid=lambda uuid=rows[name].uuid: uuid,  # type: ignore[misc]
            clock=lambda: datetime.now(UTC),
        )
        for name in NAMES
    }
    return Hosts(tmp_path, database, rows, own)


def settle(hosts: Hosts) -> bool:
    return asyncio.run(hosts.calls()._settle())


def test_a_new_coordinator_certifies_all_hosts_and_then_trusts_its_own_ca_alone(hosts: Hosts) -> None:
    old_ca = (hosts.files("old").ca.read_bytes(), hosts.files("old").ca_key.read_bytes())
    authority.begin_authority(hosts.files("new"), a_uuid(), datetime.now(UTC))
    hosts.require_all_meet()
    assert not settle(hosts), "the others do not trust it yet"
    assert not any(hosts.issuers().values())
    hosts.away.add("third")
    hosts.hear()
    assert not settle(hosts), "the third is away"
    assert not any(hosts.issuers().values())
    hosts.require_all_meet()
    hosts.away.clear()
    hosts.hear()
    assert settle(hosts)
    assert all(hosts.issuers().values())
    hosts.require_all_meet()
    assert old_ca[0] not in hosts.files("new").ca.read_bytes()
    hosts.hear()
    hosts.require_all_meet()
    assert settle(hosts)
    kept = PoolFiles(hosts.directory / "kept")
    pki.make_pool(kept, a_uuid(), a_uuid(), datetime.now(UTC))
    kept.ca.write_bytes(old_ca[0])
    kept.ca_key.write_bytes(old_ca[1])
    forged = a_member(kept, hosts.directory / "forged", hosts.rows["third"].uuid)
    forged.ca.write_bytes(old_ca[0] + hosts.files("new").ca.read_bytes())
    for name in NAMES:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            asyncio.run(meet(pki.server_context(hosts.files(name)), pki.client_context(forged)))


def test_what_a_crash_cuts_short_is_gone_on_with(hosts: Hosts) -> None:
    authority.begin_authority(hosts.files("new"), a_uuid(), datetime.now(UTC))
    hosts.hear()
    asyncio.run(hosts.calls()._certify_anew(hosts.rows["third"].ref))  # and then it died
    hosts.require_all_meet()
    assert settle(hosts)
    hosts.hear()
    hosts.require_all_meet()
    assert all(hosts.issuers().values())


def test_a_host_that_is_forgotten_keeps_nobody_waiting(hosts: Hosts) -> None:
    authority.begin_authority(hosts.files("new"), a_uuid(), datetime.now(UTC))
    hosts.hear()
    hosts.away.add("old")
    assert not settle(hosts)
    asyncio.run(hosts.write(lambda txn: txn.destroy(Host, hosts.rows["old"].ref)))
    assert settle(hosts)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asyncio.run(meet(pki.server_context(hosts.files("new")), pki.client_context(hosts.files("old"))))


def test_a_member_is_certified_for_its_own_uuid_and_its_key_stays_there(hosts: Hosts) -> None:
    authority.begin_authority(hosts.files("new"), a_uuid(), datetime.now(UTC))
    hosts.hear()
    before = hosts.files("third").key.read_bytes()
    asyncio.run(hosts.calls()._certify_anew(hosts.rows["third"].ref))
    assert hosts.files("third").key.read_bytes() != before
    assert not hosts.files("third").next_key.exists()
    assert hosts.database.view.count(Certificate) > 0
    with pytest.raises(pki.BadRequest):
        pki.adopt(hosts.files("third"), hosts.files("old").certificate.read_text())


def test_a_key_without_its_ca_is_no_authority(hosts: Hosts) -> None:
    files = hosts.files("old")
    assert authority.has_authority(files)
    files.ca_key.write_bytes(hosts.files("third").key.read_bytes())
    assert not authority.has_authority(files)
    files.ca_key.unlink()
    assert not authority.has_authority(files)


@dataclass
class OnCluster:
    """What says that the database is on a cluster."""

    cluster: str = "three servers"


def test_with_a_cluster_a_host_that_leaves_has_the_others_use_another_ca(hosts: Hosts) -> None:
    authority.begin_authority(hosts.files("new"), a_uuid(), datetime.now(UTC))
    asyncio.run(hosts.write(lambda txn: txn.create(Pool(ref=a_ref(), uuid=a_uuid()))))
    hosts.hear()
    calls = hosts.calls()

    def looked() -> bytes:
        asyncio.run(calls._leave_behind())
        return hosts.files("new").ca.read_bytes()

    assert asyncio.run(calls._settle())
    hosts.hear()
    before = looked()
    assert looked() == before
    asyncio.run(hosts.write(lambda txn: txn.destroy(Host, hosts.rows["third"].ref)))
    assert [looked(), looked()] == [before, before], "without a cluster, no door opens for it"
    calls._place = OnCluster()  # type: ignore[assignment]  # only whether there is one
    assert looked() != before
    between = looked()
    assert between.startswith(before), "both count for now"
    hosts.hear()
    assert asyncio.run(calls._settle())
    after = looked()
    assert looked() == after
    assert set(after.split(b"-----BEGIN")).isdisjoint(before.split(b"-----BEGIN")[1:])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asyncio.run(meet(pki.server_context(hosts.files("new")), pki.client_context(hosts.files("third"))))


def test_a_host_on_its_way_in_has_a_certificate_before_it_has_a_record(hosts: Hosts) -> None:
    calls = hosts.calls()
    calls._place = OnCluster()  # type: ignore[assignment]  # only whether there is one
    authority.begin_authority(hosts.files("new"), a_uuid(), datetime.now(UTC))
    before = hosts.files("new").ca.read_bytes()
    joining = a_host("fourth")
    a_member(hosts.files("new"), hosts.directory / "fourth", joining.uuid)
    asyncio.run(calls._leave_behind())
    asyncio.run(hosts.write(lambda txn: txn.create(joining)))
    asyncio.run(calls._leave_behind())
    assert hosts.files("new").ca.read_bytes() == before
