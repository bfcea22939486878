"""What is a user? The class of the XenAPI; the registry collects it."""

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
    """The API class user."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    short_name: str = static(default=NO_DEFAULT, doc="")
    fullname: str = rw(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = rw(default={}, since="orlando", doc="")
