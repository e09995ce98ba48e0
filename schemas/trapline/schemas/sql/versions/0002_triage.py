"""People's verdicts on transients."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TRIAGE = """
CREATE TABLE triage (
    _id        uuid PRIMARY KEY,
    dataset    uuid NOT NULL,
    transient  uuid NOT NULL,
    object     uuid NOT NULL,
    t          timestamptz NOT NULL,
    verdict    text NOT NULL,
    note       text NOT NULL,
    person     text NOT NULL
)
"""

COMMENTS = {
    "triage": "one row per verdict of a person on an event; the last one holds",
    "triage.t": "when it was said",
    "triage.verdict": "accept, reject or undecided",
    "triage.note": "what the person says of it; may be empty",
    "triage.person": "who says so; empty when nobody asked",
}


def upgrade() -> None:
    op.execute(TRIAGE)
    op.execute("CREATE INDEX triage_transient ON triage (transient, t)")
    for name, text in COMMENTS.items():
        what = "COLUMN" if "." in name else "TABLE"
        op.execute(f"COMMENT ON {what} {name} IS '{text}'")


def downgrade() -> None:
    op.execute("DROP TABLE triage")
