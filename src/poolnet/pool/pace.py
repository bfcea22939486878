"""How often do hosts of a pool hear of each other, and when is one that is not heard taken to be gone?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

USUAL_SILENCE_S: Final = 9.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of a pool, in seconds, which all follow from one: after how much silence a connection is given up."""

    silence_s: float = USUAL_SILENCE_S

    @property
    def beat_s(self) -> float:
        """From one heartbeat to the next."""
        return self.silence_s / 4.5

    @property
    def down_after_s(self) -> float:
        """A host that is not heard for that long is down: calls to it fail at once, and pool-wide changes leave it out."""
        return self.silence_s / 0.6

    @property
    def emergency_after_s(self) -> float:
        """A coordinator that was there a moment ago may be starting again."""
        return self.silence_s / 1.8
