"""What holds for all tests: how fast a machine is decides about none of them, and each stands where it is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_HERE: Final = Path(__file__).parent
_ROOMS: Final = {
    "lab": ("lab", "manual", "kernel"),
    "kernel": ("kernel",),
}  # `make test` collects no others for these


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that `make test` would not find is a mistake."""
    for item in items:
        for marker, rooms in _ROOMS.items():
            if item.get_closest_marker(marker) and item.path.relative_to(_HERE).parts[0] not in rooms:
                raise pytest.UsageError(
                    f"{item.nodeid} is marked {marker}; it belongs into {' or '.join(rooms)}"
                )
