"""What the associator needs to make its state anew from the store: limits of images, and weights of statistics."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0004"
branch_labels = None
depends_on = None

# A table of its own: the row of an image and its limits come through different channels, in any order.
# What was stored before has no weight and no limits: NULL, and no row.

IMAGE_LIMIT = """
CREATE TABLE image_limit (
    _id   uuid PRIMARY KEY,
    low   double precision NOT NULL,
    high  double precision NOT NULL,
    late  boolean NOT NULL
)
"""

COMMENTS = {
    "TABLE image_limit": "one row per image that was measured and folded: what it allows to say about later ones",
    "COLUMN image_limit._id": "of the image",
    "COLUMN image_limit.low": "flux above which the image may have shown an object, in its unit per beam",
    "COLUMN image_limit.high": "flux above which it must have shown it: of its largest noise",
    "COLUMN image_limit.late": "true for an image that was folded after newer ones",
    "COLUMN object_state.flux_mean_weighted_err": ("1 sigma: 1 / sqrt(sum of the weights); NULL or NaN when unknown"),
}


def upgrade() -> None:
    op.execute(IMAGE_LIMIT)
    op.execute("ALTER TABLE object_state ADD COLUMN flux_mean_weighted_err double precision")
    for name, text in COMMENTS.items():
        op.execute(f"COMMENT ON {name} IS '{text}'")


def downgrade() -> None:
    op.execute("ALTER TABLE object_state DROP COLUMN flux_mean_weighted_err")
    op.execute("DROP TABLE image_limit")
