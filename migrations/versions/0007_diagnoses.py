"""Diagnoses beside repairs and analyses.

Revision: 0007
Follows: 0006

Going down removes the diagnoses, with all that belongs to them: a service of before would not know what they are. A
warning says how many.
"""

import logging

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

log = logging.getLogger(__name__)


def upgrade() -> None:
    _restrict_kinds("'repair', 'analysis', 'diagnosis'")


def downgrade() -> None:
    gone = op.get_bind().execute(sa.text("DELETE FROM jobs WHERE kind = 'diagnosis'")).rowcount
    log.warning("removed for good: %d diagnoses with all that belongs to them", gone)
    _restrict_kinds("'repair', 'analysis'")


def _restrict_kinds(kinds: str) -> None:
    op.drop_constraint(op.f("ck_jobs_kind"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", f"kind IN ({kinds})")
