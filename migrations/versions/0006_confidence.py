"""How sure the model at a point of the path is.

Revision: 0006
Follows: 0005

Going down forgets it; nothing else depends on it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("curve_points", sa.Column("clean_confidence", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("curve_points", "clean_confidence")
