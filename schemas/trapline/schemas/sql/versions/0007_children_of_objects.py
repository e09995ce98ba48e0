"""An index from an object that was split to those that went on from it."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Few objects have a parent, and it never changes: the index is small, and updates of an object do not touch it.
    op.execute("CREATE INDEX object_parent ON object (parent) WHERE parent IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP INDEX object_parent")
