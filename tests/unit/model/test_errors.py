"""Errors: codes, the parameters really sent, and what people read."""

from __future__ import annotations

from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.types import Ref

HOST: Ref[Host] = Ref("OpaqueRef:h")
PIF_1: Ref[PIF] = Ref("OpaqueRef:p")
VIFS: tuple[Ref[VIF], ...] = (Ref("OpaqueRef:v1"), Ref("OpaqueRef:v2"))


def test_a_failure_has_the_code_of_its_function_and_its_parameters() -> None:
    failure = errors.network_already_connected(HOST, PIF_1)
    assert (failure.code, failure.params) == ("NETWORK_ALREADY_CONNECTED", ("OpaqueRef:h", "OpaqueRef:p"))
    assert str(failure) == "NETWORK_ALREADY_CONNECTED[OpaqueRef:h; OpaqueRef:p]"


def test_parameters_are_texts() -> None:
    assert errors.vlan_in_use("eth0", 42).params == ("eth0", "42")
    assert errors.message_parameter_count_mismatch("VLAN.create", 3, 2).params == ("VLAN.create", "3", "2")


def test_a_code_may_have_a_parameter_per_object() -> None:
    assert errors.network_contains_vif(VIFS).params == VIFS
    assert errors.licence_restriction(()).params == ()


def test_some_codes_send_other_parameters_than_are_documented() -> None:
    assert errors.pif_is_physical().params == ()
    assert errors.ERRORS["PIF_IS_PHYSICAL"].params == ("PIF",)


def test_the_texts_that_clients_know_are_exact() -> None:
    found = {
        code: errors.ERRORS[code].description for code in ("UUID_INVALID", "INVALID_VALUE", "HOST_IS_SLAVE")
    }
    assert found == {
        "UUID_INVALID": "The uuid you supplied was invalid.",
        "INVALID_VALUE": "The value given is invalid",
        "HOST_IS_SLAVE": "You cannot make regular API calls directly on a supporter. "
        "Please pass API calls via the coordinator host.",
    }


def test_a_code_that_nobody_described_gets_a_sentence() -> None:
    assert errors.ERRORS["VM_HAS_CHECKPOINT"].description == "VM has checkpoint."


def test_an_undocumented_code_can_be_sent_but_is_not_described() -> None:
    assert errors.illegal_in_fips_mode().code == "ILLEGAL_IN_FIPS_MODE"
    assert "ILLEGAL_IN_FIPS_MODE" not in errors.ERRORS
    assert "ILLEGAL_IN_FIPS_MODE" in errors.UNDOCUMENTED_ERRORS
