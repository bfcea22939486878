"""How does what became of the frames become a proof that is sent to whoever asked? Shared by the backends."""

from __future__ import annotations

from collections.abc import Sequence

from poolnet.hostnet.protocol import ClassFound, PortProof
from poolnet.lock.prove import Probe, Sent, judged


def proof_of(
    device: str, tried: Sequence[Probe], sent: Sequence[Sent], faults: tuple[str, ...], is_changing: bool
) -> PortProof:
    """The proof of one port, by what became of each frame that was tried."""
    outcomes = {probe.frame: outcome for probe, outcome in zip(tried, sent, strict=True)}
    wanted = {probe.frame: probe.meant.passes for probe in tried}
    verdicts = judged(tried, sent)
    wrong: list[ClassFound] = []
    for verdict in verdicts:
        frame = verdict.counterexample
        if frame is not None:
            passes, reason = outcomes[frame]
            wrong.append(
                ClassFound(
                    name=verdict.name,
                    frame_hex=frame.hex(),
                    forwarded=passes,
                    counted=reason.value if reason is not None else "",
                    wanted=wanted[frame],
                )
            )
    return PortProof(
        device=device,
        frames=len(tried),
        passing=tuple(verdict.name for verdict in verdicts if verdict.proved and verdict.passes),
        stopped=tuple(verdict.name for verdict in verdicts if verdict.proved and not verdict.passes),
        wrong=tuple(wrong),
        faults=faults,
        is_changing=is_changing,
    )
