"""When does Python look for garbage? Seldom at what stays, for everybody waits meanwhile."""

from __future__ import annotations

import gc
from typing import Final

FULL_AFTER: Final = 50
"""Collections of the middle generation until a full one, which takes 10 ms with the connections of one noisy client."""


def settle() -> None:
    """Takes what is there now, the model and the loaded database, for something that stays as long as the server."""
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_AFTER)
