"""What can go wrong between us and PostgreSQL, in words that say the way out."""

from __future__ import annotations


class DatabaseError(RuntimeError):
    """The database cannot be used as it is. The text says why and what would mend it; trying again would not."""


class DatabaseUnavailableError(DatabaseError):
    """The database does not answer now, or not in time. What was under way is rolled back; try again later."""
