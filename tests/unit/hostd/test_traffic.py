"""Bytes a second, from the kernel's counters."""

from __future__ import annotations

from pathlib import Path

from poolnet.hostd.traffic import Traffic, counters

HEAD = "Inter-|   Receive    |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n"


def table(**links: tuple[int, int]) -> str:
    lines = (f"{name:>6}: {rx} 1 0 0 0 0 0 0 {tx} 1 0 0 0 0 0 0\n" for name, (rx, tx) in links.items())
    return HEAD + "".join(lines)


def test_the_kernels_own_table_is_read() -> None:
    assert "lo" in counters(Path("/proc/net/dev").read_text())


def test_a_rate_needs_two_looks_and_never_is_negative() -> None:
    traffic = Traffic()
    assert traffic.rates(("eth0",)) == ()
    traffic.note(10.0, table(eth0=(1000, 0), eth1=(7, 7)))
    assert traffic.rates(("eth0",)) == ()
    traffic.note(15.0, table(eth0=(6000, 100), eth2=(0, 0)))
    (rate,) = traffic.rates(("eth0", "eth1", "eth2", "eth9"))
    assert (rate.device, rate.received_bytes_per_s, rate.sent_bytes_per_s) == ("eth0", 1000.0, 20.0)
    traffic.note(20.0, table(eth0=(5, 5)))  # made anew meanwhile
    (rate,) = traffic.rates(("eth0",))
    assert (rate.received_bytes_per_s, rate.sent_bytes_per_s) == (0.0, 0.0)
