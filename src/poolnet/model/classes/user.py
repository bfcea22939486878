"""Who was a user before there were subjects? The class user of the XenAPI, deprecated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, rw, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping


@api_class(
    "user",
    events=False,
    role=Role.POOL_ADMIN,
    constructor=True,
    lists_all=False,
    state="deprecated",
    deprecated_since="george",
)
class User(Row):
    """A user of the old kind; there are none."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    short_name: str = static(default=NO_DEFAULT, doc="The login name.")
    fullname: str = rw(default=NO_DEFAULT, doc="The full name.")
    other_config: Mapping[str, str] = rw(default={}, since="orlando", doc="Further settings, by key.")
