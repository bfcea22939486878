"""ネットワークへの目的の追加: giving a network a purpose, such as NBD connections."""

from __future__ import annotations

import pytest

from tests.manual.console import Console

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

ADD = "xe network-param-add param-name=purpose param-key=purpose uuid=network-uuid"
REMOVE = "xe network-param-remove param-name=purpose param-key=purpose uuid=network-uuid"


@pytest.mark.parametrize("purpose", ["nbd", "insecure_nbd"])
def test_a_purpose_is_added_and_removed(console: Console, purpose: str) -> None:
    network = console.network_of("eth1")
    console.type(ADD, purpose=purpose, network_uuid=network)
    assert console.param("network", network, "purpose") == purpose
    console.type(REMOVE, purpose=purpose, network_uuid=network)
    assert console.param("network", network, "purpose") == ""


def test_the_two_purposes_exclude_each_other(console: Console) -> None:
    one, two = console.network_of("eth1"), console.network_of("eth2")
    console.type(ADD, purpose="nbd", network_uuid=one)
    said = console.refused(ADD, purpose="insecure_nbd", network_uuid=two)
    assert "insecure_nbd" in said
    assert console.param("network", two, "purpose") == ""
    console.type(REMOVE, purpose="nbd", network_uuid=one)
