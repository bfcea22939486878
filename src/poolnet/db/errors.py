"""What can go wrong with the database itself? Whoever commits or opens it catches these.

They are not failures of the XenAPI: the rim turns them into codes (a refused commit is an INTERNAL_ERROR, spec §1.6).
"""

from __future__ import annotations


class DatabaseError(Exception):
    """Any trouble of the database."""


class Conflict(DatabaseError):
    """The commit cannot be applied: a row is gone meanwhile, or a rule of integrity would be broken.

    Nothing of it was applied. The caller may begin again on the present state.
    """


class Duplicate(Conflict):
    """A reference or uuid is taken already."""


class BadRow(DatabaseError):
    """A row to be committed has a value of a type that its field does not have. Nothing of it was applied."""


class StorageFailed(DatabaseError):
    """The engine could not make a commit durable (a full disk, a broken one). Nothing of it was applied."""


class OutcomeUnknown(DatabaseError):
    """Nobody can say whether a commit was made durable, and perhaps will be: its caller gets no answer."""


class DatabaseInUse(DatabaseError):
    """Another process has this database open."""


class DatabaseDamaged(DatabaseError):
    """What is stored cannot be read as rows of the model."""


class SchemaTooNew(DatabaseError):
    """A newer poolnet wrote this database."""
