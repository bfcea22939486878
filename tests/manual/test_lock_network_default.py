"""クラウド環境でのVIFロックモードの簡単設定, VIFトラフィックフィルタリングのネットワーク設定を使用する: the network decides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.manual.console import Console

pytestmark = pytest.mark.lab

SET = "xe network-param-set uuid=network-uuid default-locking-mode=[unlocked|disabled]"
GET = "xe network-param-get uuid=network-uuid param-name=default-locking-mode"
LIST = "xe network-list uuid=network-uuid params=default-locking-mode"
ONE, TWO = "10.87.0.1", "10.87.0.2"


@pytest.fixture
def network(console: Console) -> Iterator[str]:
    """An internal network, made as the manual says."""
    uuid = console.type("xe network-create name-label=cloud")
    yield uuid
    console.xe("network-destroy", f"uuid={uuid}")


def test_new_vifs_do_as_their_network_says(console: Console, network: str) -> None:
    assert network in console.type("xe network-list")
    assert console.type(GET, network_uuid=network) == "unlocked", "a new network is"
    console.type(SET, network_uuid=network, unlocked_disabled="disabled")
    assert console.type(GET, network_uuid=network) == "disabled"
    assert console.type(LIST, network_uuid=network).partition(": ")[2].strip() == "disabled"
    with console.vm("one", network, f"{ONE}/24") as one, console.vm("two", network, f"{TWO}/24") as two:
        assert console.param("vif", one, "locking-mode") == "network_default"
        assert not console.lab.pings("one", TWO)
        for vif in (one, two):
            words = "xe vif-param-set uuid=vif_uuid locking-mode=unlocked"
            console.type(words, vif_uuid=vif)
        console.talks("one", TWO)
        words = "xe vif-param-set uuid=vif_uuid locking-mode=network_default"
        console.type(words, vif_uuid=two)
        assert not console.lab.pings("one", TWO)
        said = console.refused(SET, network_uuid=network, unlocked_disabled="unlocked")
        assert said.splitlines()[0] == "The network has a VIF that is in use.", (
            "an active VIF forbids the change"
        )
        assert console.type(GET, network_uuid=network) == "disabled"


def test_vifs_are_given_back_to_a_network_that_lets_all_through(console: Console, network: str) -> None:
    words = "xe network-param-set uuid=network-uuid default-locking-mode=unlocked"
    console.type(words, network_uuid=network)
    with console.vm("one", network, f"{ONE}/24") as one, console.vm("two", network, f"{TWO}/24"):
        console.type("xe vif-param-set uuid=vif-uuid locking-mode=disabled", vif_uuid=one)
        assert not console.lab.pings("two", ONE)
        console.type("xe vif-param-set uuid=vif_uuid locking-mode=network_default", vif_uuid=one)
        console.talks("two", ONE)
