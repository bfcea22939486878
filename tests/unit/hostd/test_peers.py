"""Who is connected to this host, as the kernel says."""

from __future__ import annotations

import socket

from poolnet.hostd.proc_net import tcp_peers


def test_whoever_is_connected_to_an_address_of_ours_is_a_peer() -> None:
    for host, peer, other in (("127.0.0.2", "127.0.0.3", "127.0.0.4"), ("::ffff:127.0.0.2", "127.0.0.5", "")):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as listening:
            listening.bind((host, 0))
            listening.listen()
            port = listening.getsockname()[1]
            with socket.create_connection(("127.0.0.2", port), source_address=(peer, 0)):
                accepted, _ = listening.accept()
                with accepted:
                    assert peer in tcp_peers({"127.0.0.2"})
                    assert peer not in tcp_peers({"127.0.0.2", peer})
                    assert peer not in tcp_peers({other or "127.0.0.9"})
