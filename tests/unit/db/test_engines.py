from __future__ import annotations

import datetime as dt
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from poolnet.db.body import decode_body, encode_body
from poolnet.db.database import NUMBERS_RESERVED, Database
from poolnet.db.engine import DELETIONS_KEPT, DELETIONS_MAX, CommitRecord, Engine, LogHead, Note
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.engine_sqlite import SqliteEngine
from poolnet.db.errors import DatabaseDamaged, DatabaseInUse, SchemaTooNew, StorageFailed
from poolnet.db.shape import SHAPES
from poolnet.db.upgrade import CURRENT
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.enums import VifLockingMode
from tests.unit.db.clusters import Cluster, cluster, engine_on
from tests.unit.db.rows import a_network, a_ref, a_task, a_vif, commit, create, destroy

OLD_DATABASE = Path(__file__).parent / "data" / "version1.sql"


@pytest.fixture(params=["sqlite", "memory", "ovsdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "ovsdb":
        with engine_on(request.getfixturevalue("server")) as on_server:
            yield on_server
    else:
        yield SqliteEngine(tmp_path / "pool.db") if request.param == "sqlite" else MemoryEngine()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("server") / "c", 1) as one:
        yield one


def test_everything_is_there_again_in_the_same_order(engine: Engine) -> None:
    database = Database.open(engine)
    networks = [a_network(str(number)) for number in range(5)]
    vif = VIF(
        ref=a_ref(),
        uuid="v",
        network=networks[0].ref,
        other_config={"ключ": "値"},
        ipv4_allowed=("1.2.3.4",),
        trunks=(1, 2),
        locking_mode=VifLockingMode.LOCKED,
        reserved=True,
    )
    metrics = HostMetrics(ref=a_ref(), uuid="m", last_updated=dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC))
    create(database, *networks, vif, metrics)
    commit(database, lambda txn: txn.update(Network, networks[1].ref, name_label="changed"))
    commit(database, lambda txn: txn.destroy(Network, networks[2].ref))
    rows = {cls: tuple(database.view.all(cls)) for cls in SHAPES}
    database.close()
    again = Database.open(engine)
    assert {cls: tuple(again.view.all(cls)) for cls in SHAPES} == rows
    assert [row.name_label for row in again.view.all(Network)] == ["0", "changed", "3", "4"]
    assert again.view.get(Network, networks[0].ref).VIFs == (vif.ref,)
    assert isinstance(again.view.get(VIF, vif.ref).locking_mode, VifLockingMode)
    again.close()


def test_numbers_never_go_back_after_a_crash(engine: Engine) -> None:
    database = Database.open(engine)
    number = create(database, a_network())
    engine.close()  # no orderly end of the database itself
    again = Database.open(engine)
    assert number < again.feed.number <= number + NUMBERS_RESERVED
    again.close()


def test_deletions_and_modifications_outlive_a_restart(engine: Engine) -> None:
    database = Database.open(engine)
    network, gone, task = a_network(), a_network(), a_task()
    start = create(database, network, gone, task)
    create(database, a_vif(network.ref))
    destroy(database, gone)
    before = database.feed.changes_since(start, ["network", "VIF"])
    assert [(each.class_name, each.ref) for each in before.modified] == [("network", network.ref)]
    database.close()
    database = Database.open(engine)
    assert database.feed.changes_since(start, ["network", "VIF"]) == before
    assert not database.feed.changes_since(start, ["task"]).complete
    database.close()


def test_old_deletions_are_forgotten_in_the_file_too(engine: Engine) -> None:
    database = Database.open(engine)
    for _ in range(2):
        rows = [a_network() for _ in range(DELETIONS_MAX - 1)]
        start = create(database, *rows)
        destroy(database, *rows)
    database.close()
    again = Database.open(engine)
    delta = again.feed.changes_since(start)
    assert (len(delta.deleted), delta.complete) == (DELETIONS_KEPT, False)
    again.close()


def test_a_second_user_is_turned_away(tmp_path: Path) -> None:
    first, second = SqliteEngine(tmp_path / "pool.db"), SqliteEngine(tmp_path / "pool.db")
    first.load()
    with pytest.raises(DatabaseInUse):
        second.load()
    first.close()
    second.load()
    with pytest.raises(DatabaseInUse):
        second.load()
    second.close()
    with pytest.raises(StorageFailed):
        second.append(CommitRecord(ceiling=5))


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    database = Database.open(SqliteEngine(tmp_path / "pool.db"))
    create(database, a_network())
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert set(modes) >= {"pool.db", "pool.db-wal", "pool.db.lock"}
    assert set(modes.values()) == {0o600}
    database.close()


def test_commits_are_flushed_to_the_disk(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "pool.db")
    engine.load()
    assert engine._connection is not None
    assert engine._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert engine._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    engine.close()


def test_a_full_file_system_loses_nothing_that_was_there(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "pool.db")
    database = Database.open(engine)
    create(database, a_network("kept"))
    assert engine._connection is not None
    pages = engine._connection.execute("PRAGMA page_count").fetchone()[0]
    engine._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFailed):
        commit(database, lambda txn: [txn.create(a_network("x" * 5000)) for _ in range(20)])
    assert [row.name_label for row in database.view.all(Network)] == ["kept"]
    engine._connection.execute("PRAGMA max_page_count = 1000000")
    create(database, a_network("later"))
    database.close()
    again = Database.open(engine)
    assert [row.name_label for row in again.view.all(Network)] == ["kept", "later"]
    again.close()


def test_notes_keep_their_numbers_though_those_of_one_append_share_a_row(tmp_path: Path) -> None:
    path = tmp_path / "pool.db"
    engine = SqliteEngine(path)
    engine.load()
    bodies = [b'{"n":%d}' % number for number in range(1, 6)]
    notes = tuple(Note(number, body) for number, body in enumerate(bodies, 1))
    for group in (notes[:1], notes[1:4], notes[4:]):
        engine.append(CommitRecord(notes=group))
    engine.close()
    with closing(sqlite3.connect(path)) as file:
        assert [number for (number,) in file.execute("SELECT number FROM note")] == [1, 4, 5]
    assert engine.load().notes == notes
    engine.append(CommitRecord(log_head=LogHead(records=4, hash="h", noted=4)))
    engine.close()
    assert engine.load().notes == notes[4:]
    engine.close()


def an_old_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(OLD_DATABASE.read_text(encoding="utf-8"))
    connection.close()


def test_a_database_of_version_1_is_upgraded(tmp_path: Path) -> None:
    an_old_database(tmp_path / "pool.db")
    database = Database.open(SqliteEngine(tmp_path / "pool.db"))
    networks = list(database.view.all(Network))
    assert [row.name_label for row in networks] == ["storage", "internal"]
    vif = next(database.view.all(VIF))
    assert (vif.network, vif.device, vif.other_config) == (networks[1].ref, "0", {"ethtool-gso": "off"})
    assert (vif.locking_mode, vif.trunks, vif.ipv4_allowed) == (VifLockingMode.NETWORK_DEFAULT, (), ())
    assert networks[1].VIFs == (vif.ref,)
    assert database.feed.number == 40
    assert {each.ref for each in database.feed.changes_since(39).modified} >= {networks[0].ref, vif.ref}
    commit(database, lambda txn: txn.destroy(Network, networks[0].ref))
    database.close()
    with sqlite3.connect(tmp_path / "pool.db") as connection:
        versions = [
            row[0] for row in connection.execute("SELECT version FROM schema_version ORDER BY version")
        ]
        assert versions == list(range(1, CURRENT + 1))
        assert connection.execute("SELECT count(*) FROM object WHERE class = 'no_such_class'").fetchone() == (
            1,
        )
    connection.close()


def test_a_failed_upgrade_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "pool.db"
    an_old_database(path)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE deletion (in_the_way INTEGER)")
    connection.close()
    with pytest.raises(StorageFailed):
        Database.open(SqliteEngine(path))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT max(version) FROM schema_version").fetchone() == (1,)
        connection.execute("DROP TABLE deletion")
    connection.close()
    database = Database.open(SqliteEngine(path))
    assert database.view.count(Network) == 2
    database.close()


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    Database.open(SqliteEngine(tmp_path / "pool.db")).close()
    with sqlite3.connect(tmp_path / "pool.db") as connection:
        connection.execute("INSERT INTO schema_version VALUES (?)", (CURRENT + 1,))
    connection.close()
    engine = SqliteEngine(tmp_path / "pool.db")
    for _ in range(2):
        with pytest.raises(SchemaTooNew):
            Database.open(engine)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pool.db"
    path.write_bytes(os.urandom(8192))
    with pytest.raises(DatabaseDamaged):
        Database.open(SqliteEngine(path))
    with pytest.raises(FileNotFoundError):
        Database.open(SqliteEngine(tmp_path / "no" / "pool.db"))


def test_a_damaged_row_is_told_and_the_file_given_free(tmp_path: Path) -> None:
    path = tmp_path / "pool.db"
    database = Database.open(SqliteEngine(path))
    create(database, a_network())
    database.close()
    with sqlite3.connect(path) as connection:
        connection.execute("""UPDATE object SET body = '{"MTU": "text"}'""")
    connection.close()
    engine = SqliteEngine(path)
    for _ in range(2):
        with pytest.raises(DatabaseDamaged, match="MTU"):
            Database.open(engine)


def test_every_class_reads_its_own_default_row_back() -> None:
    for cls, shape in SHAPES.items():
        row = cls(ref=a_ref())
        if shape.durable:
            assert decode_body(shape.name, row.ref, encode_body(row)) == row
            assert decode_body(shape.name, row.ref, b'{"gone_field": 1}') == row
        else:
            assert decode_body(shape.name, row.ref, b"{}") is None


def test_bodies_have_the_names_of_the_wire_and_no_computed_sets() -> None:
    body = encode_body(a_vif())
    assert b'"locking_mode":"network_default"' in body
    assert b"allowed_operations" not in body
    assert b"VIFs" not in encode_body(a_network())
