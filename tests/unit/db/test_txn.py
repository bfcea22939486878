from __future__ import annotations

import pytest

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.errors import Conflict, Duplicate
from poolnet.db.txn import Txn
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.errors import Failure
from poolnet.model.types import NULL, Ref
from tests.unit.db.rows import a_network, a_pif, a_ref, a_vif, a_vm, commit, create, destroy


def a_database() -> Database:
    return Database.open(MemoryEngine())


def test_a_transaction_sees_its_own_writes_and_nobody_else_does() -> None:
    database = a_database()
    txn = database.begin()
    network = txn.create(a_network("n"))
    txn.update(Network, network, MTU=9000)
    assert txn.get(Network, network).MTU == 9000
    assert database.view.find(Network, network) is None
    database.commit_now(txn.changes())
    assert database.view.get(Network, network).MTU == 9000


def test_computed_sets_follow_the_references_in_every_layer() -> None:
    database = a_database()
    first, second = a_network(), a_network()
    vif = a_vif(first.ref)
    create(database, first, second, vif)
    assert database.view.get(Network, first.ref).VIFs == (vif.ref,)
    txn = database.begin()
    txn.update(VIF, vif.ref, network=second.ref)
    more = txn.create(a_vif(first.ref))
    inner = txn.nested()
    inner.destroy(VIF, vif.ref)
    assert txn.get(Network, first.ref).VIFs == (more,)
    assert txn.get(Network, second.ref).VIFs == (vif.ref,)
    assert inner.get(Network, second.ref).VIFs == ()
    assert database.view.get(Network, first.ref).VIFs == (vif.ref,)
    inner.merge()
    assert txn.get(Network, second.ref).VIFs == ()


def test_sets_given_with_a_new_row_are_ignored() -> None:
    txn = a_database().begin()
    ref = txn.create(Network(ref=a_ref(), uuid="u", VIFs=(Ref("OpaqueRef:elsewhere"),)))
    assert txn.get(Network, ref).VIFs == ()


def test_missing_objects_are_told_by_the_codes_of_the_api() -> None:
    view = a_database().view
    with pytest.raises(Failure) as handle:
        view.get(VIF, Ref("OpaqueRef:nothing"))
    assert (handle.value.code, handle.value.params) == ("HANDLE_INVALID", ("VIF", "OpaqueRef:nothing"))
    with pytest.raises(Failure) as by_uuid:
        view.by_uuid(Network, "nope")
    assert (by_uuid.value.code, by_uuid.value.params) == ("UUID_INVALID", ("network", "nope"))
    txn = a_database().begin()
    with pytest.raises(Failure):
        txn.update(VIF, Ref("OpaqueRef:nothing"), device="1")
    with pytest.raises(Failure):
        txn.destroy(VIF, Ref("OpaqueRef:nothing"))


def test_null_and_dangling_references_find_nothing() -> None:
    database = a_database()
    network = a_network()
    vif = a_vif(network.ref)
    create(database, network, vif)
    destroy(database, network)
    assert database.view.find(Network, NULL) is None
    assert database.view.get(VIF, vif.ref).network == network.ref
    assert database.view.find(Network, database.view.get(VIF, vif.ref).network) is None


def test_rows_come_in_creation_order_and_are_found_by_name_uuid_and_fields() -> None:
    database = a_database()
    rows = [a_vm(name) for name in ("b", "a", "b")]
    create(database, *rows)
    commit(database, lambda txn: txn.update(VM, rows[0].ref, memory_target=7))
    txn = database.begin()
    extra = txn.create(a_vm("b"))
    assert [row.ref for row in txn.all(VM)] == [*(row.ref for row in rows), extra]
    assert [row.ref for row in txn.by_name_label(VM, "b")] == [rows[0].ref, rows[2].ref, extra]
    assert txn.by_uuid(VM, rows[1].uuid).ref == rows[1].ref
    assert [row.ref for row in txn.where(VM, name_label="b", memory_target=7)] == [rows[0].ref]
    assert [row.ref for row in txn.where(VM, memory_target=7)] == [rows[0].ref]
    assert txn.where(VM, uuid=rows[1].uuid, name_label="b") == ()
    assert (txn.count(VM), database.view.count(VM)) == (4, 3)
    assert txn.exists(VM, extra)
    assert not database.view.exists(VM, extra)


def test_a_changed_name_reference_or_uuid_is_found_at_its_new_value_only() -> None:
    database = a_database()
    first, second, pif = a_network("old"), a_network("other"), a_pif()
    create(database, first, second, pif)
    txn = database.begin()
    txn.update(Network, first.ref, name_label="new", uuid="fresh")
    txn.update(PIF, pif.ref, network=second.ref)
    for view in (txn, database.view):
        assert [row.ref for row in view.by_name_label(Network, "new")] == [first.ref]
        assert view.by_name_label(Network, "old") == ()
        assert view.by_uuid(Network, "fresh").ref == first.ref
        with pytest.raises(Failure):
            view.by_uuid(Network, first.uuid)
        assert [row.ref for row in view.where(PIF, network=second.ref)] == [pif.ref]
        assert view.where(PIF, network=NULL) == ()
        database.commit_now(txn.changes())


def test_an_equal_value_is_no_change() -> None:
    database = a_database()
    vif = a_vif(device="3")
    create(database, vif)
    before = database.feed.number
    txn = database.begin()
    txn.update(VIF, vif.ref, device="3", other_config={})
    assert not txn.changes()
    assert database.commit_now(txn.changes()) == before
    txn.update(VIF, vif.ref, device="4")
    txn.update(VIF, vif.ref, device="3")
    assert database.commit_now(txn.changes()) == before
    assert database.feed.number == before


def test_only_stored_fields_are_written_or_searched() -> None:
    txn = a_database().begin()
    network = txn.create(a_network())
    with pytest.raises(TypeError, match="VIFs"):
        txn.update(Network, network, VIFs=())
    with pytest.raises(TypeError, match="nonsense"):
        txn.where(Network, nonsense=1)
    with pytest.raises(TypeError, match="needs a reference"):
        txn.create(Network(ref=NULL))


def test_a_taken_reference_or_uuid_is_refused_at_once() -> None:
    database = a_database()
    first, second = a_network(), a_network()
    create(database, first)
    txn = database.begin()
    with pytest.raises(Duplicate):
        txn.create(Network(ref=first.ref, uuid="another"))
    with pytest.raises(Duplicate):
        txn.create(VM(ref=Ref(first.ref), uuid="another"))
    with pytest.raises(Duplicate):
        txn.create(Network(ref=second.ref, uuid=first.uuid))
    txn.create(second)
    with pytest.raises(Duplicate):
        txn.update(Network, second.ref, uuid=first.uuid)
    txn.destroy(Network, first.ref)
    with pytest.raises(Duplicate):
        txn.create(first)
    txn.update(Network, second.ref, uuid=first.uuid)
    assert txn.by_uuid(Network, first.uuid).ref == second.ref


def test_what_is_made_and_destroyed_in_one_transaction_leaves_nothing() -> None:
    database = a_database()
    txn = database.begin()
    vif = txn.create(a_vif())
    txn.update(VIF, vif, device="9")
    txn.destroy(VIF, vif)
    assert not txn.changes()
    assert (txn.count(VIF), list(txn.all(VIF)), txn.where(VIF, device="9")) == (0, [], ())


def test_a_nested_transaction_is_dropped_or_merged() -> None:
    database = a_database()
    txn = database.begin()
    vm = txn.create(a_vm("outer"))
    dropped = txn.nested()
    dropped.update(VM, vm, name_label="dropped")
    assert txn.get(VM, vm).name_label == "outer"
    kept = txn.nested()
    kept.update(VM, vm, name_label="kept")
    vif = kept.create(a_vif(vm=vm))
    kept.merge()
    assert txn.get(VM, vm).name_label == "kept"
    assert txn.get(VM, vm).VIFs == (vif,)
    assert not kept.changes()
    with pytest.raises(TypeError):
        txn.merge()


def test_an_open_transaction_shows_others_commits_below_its_own_writes() -> None:
    database = a_database()
    network, other, vif = a_network(), a_network(), a_vif()
    create(database, network, other, vif)
    txn = database.begin()
    txn.update(VIF, vif.ref, device="mine", network=network.ref)
    assert txn.get(Network, network.ref).VIFs == (vif.ref,)
    later = a_vif(network.ref)

    def of_others(each: Txn) -> None:
        each.update(VIF, vif.ref, network=other.ref, MAC="theirs")
        each.create(later)

    commit(database, of_others)
    assert txn.get(VIF, vif.ref).MAC == "theirs"
    assert txn.get(VIF, vif.ref).device == "mine"
    assert set(txn.get(Network, network.ref).VIFs) == {vif.ref, later.ref}
    assert txn.get(Network, other.ref).VIFs == ()
    assert database.view.get(Network, other.ref).VIFs == (vif.ref,)


def test_rows_may_be_destroyed_while_they_are_walked() -> None:
    txn = a_database().begin()
    for _ in range(3):
        txn.create(a_vif())
    for vif in txn.all(VIF):
        txn.destroy(VIF, vif.ref)
    assert txn.count(VIF) == 0


def test_a_row_that_others_destroy_meanwhile_is_gone() -> None:
    database = a_database()
    network, vif = a_network(), a_vif()
    create(database, network, vif)
    txn = database.begin()
    txn.update(VIF, vif.ref, network=network.ref, device="5")
    assert txn.get(Network, network.ref).VIFs == (vif.ref,)
    destroy(database, network, vif)
    assert txn.find(Network, network.ref) is None
    assert txn.find(VIF, vif.ref) is None
    assert txn.where(VIF, network=network.ref) == txn.where(VIF, network=network.ref, device="5") == ()
    with pytest.raises(Conflict):
        database.commit_now(txn.changes())


def test_a_touch_is_a_change_without_a_write() -> None:
    database = a_database()
    network, other = a_network(), a_network()
    create(database, network, other)
    txn = database.begin()
    for each in (network, other):
        txn.touch(Network, each.ref)
    inner = txn.nested()
    inner.touch(Network, network.ref)
    inner.merge()
    txn.destroy(Network, other.ref)
    with pytest.raises(Failure):
        txn.touch(Network, other.ref)
    assert txn.changes().touched == ((Network, network.ref),)
    number = database.commit_now(txn.changes())
    assert database.feed.modified_at(Network, network.ref) == number


def test_an_object_without_a_uuid_is_allowed_and_found_by_none() -> None:
    database = a_database()
    first, second = Network(ref=a_ref()), Network(ref=a_ref())
    create(database, first, second)
    commit(database, lambda txn: txn.update(Network, first.ref, uuid="now"))
    commit(database, lambda txn: txn.update(Network, first.ref, uuid=""))
    with pytest.raises(Failure):
        database.view.by_uuid(Network, "")
    assert len(database.view.where(Network, uuid="")) == 2
