"""Analyses beside repairs: their points and stage, lists by kind; a second path on the curve of a repair.

Revision: 0002
Follows: 0001

Going down removes the analyses, with all that belongs to them, and the points of the second paths: what is left could
not be told apart from repairs. A warning says how many. The analyses' stored files are orphans then, which the workers
collect. Make a backup first (`modeconn backup`) where they matter.
"""

import logging

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

log = logging.getLogger(__name__)

_OLD_STAGES = "'validating', 'scanning', 'preparing_ends', 'fitting_path', 'sweeping', 'selecting', 'exporting'"
_NEW_STAGES = _OLD_STAGES.replace("'fitting_path'", "'fitting_path', 'fitting_robust_path'")
_NEWEST_FIRST = (sa.literal_column("created_at DESC"), sa.literal_column("id DESC"))
_LABELS_NEWEST_FIRST = (sa.literal_column("created_at DESC"), sa.literal_column("job_id DESC"))


def upgrade() -> None:
    op.create_check_constraint(op.f("ck_jobs_kind"), "jobs", "kind IN ('repair', 'analysis')")
    _restrict_stages(_NEW_STAGES)
    op.drop_index("ix_jobs_tenant_created", "jobs")
    op.drop_index("ix_jobs_tenant_state_created", "jobs")
    op.create_index("ix_jobs_tenant_kind_created", "jobs", ["tenant_id", "kind", *_NEWEST_FIRST])
    op.create_index("ix_jobs_tenant_state_kind_created", "jobs", ["tenant_id", "state", "kind", *_NEWEST_FIRST])

    op.add_column("job_labels", sa.Column("kind", sa.Text(), server_default="repair", nullable=False))
    op.alter_column("job_labels", "kind", server_default=None)
    op.drop_index("ix_job_labels_page", "job_labels")
    op.create_index("ix_job_labels_page", "job_labels", ["tenant_id", "kind", "key", "value", *_LABELS_NEWEST_FIRST])

    # jobs that may yet run, or run again, are read by workers that expect every default filled in
    op.execute(
        """UPDATE jobs SET request = jsonb_set(request, '{method,plane}', '0') || '{"tampering": "backdoor"}'
        WHERE state <> 'succeeded'"""
    )

    op.add_column("curve_points", sa.Column("path", sa.Text(), server_default="main", nullable=False))
    op.create_check_constraint(op.f("ck_curve_points_path"), "curve_points", "path IN ('main', 'unaligned')")
    _key_curve_points(["job_id", "path", "t"])
    _create_analysis_points()


def _create_analysis_points() -> None:
    figures = ("clean_loss", "clean_error", "clean_error_low", "clean_error_high")
    figures += ("robust_loss", "robust_loss_low", "robust_loss_high")
    figures += ("robust_error", "robust_error_low", "robust_error_high")
    eigenvalues = ("eigenvalue", "eigenvalue_low", "eigenvalue_high", "eigenvalue_converged")
    op.create_table(
        "analysis_points",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("t", sa.Double(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in figures),
        *(sa.Column(name, sa.Double(), nullable=True) for name in eigenvalues),
        sa.CheckConstraint("path IN ('standard', 'robust')", name=op.f("ck_analysis_points_path")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_analysis_points_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "path", "t", name=op.f("pk_analysis_points")),
    )


def downgrade() -> None:
    analyses = op.get_bind().execute(sa.text("DELETE FROM jobs WHERE kind <> 'repair'")).rowcount
    op.drop_table("analysis_points")

    points = op.get_bind().execute(sa.text("DELETE FROM curve_points WHERE path <> 'main'")).rowcount
    log.warning(
        "removed for good: %d analyses with all that belongs to them, %d curve points of second paths", analyses, points
    )
    _key_curve_points(["job_id", "t"])
    op.drop_constraint(op.f("ck_curve_points_path"), "curve_points")
    op.drop_column("curve_points", "path")

    op.drop_index("ix_job_labels_page", "job_labels")
    op.create_index("ix_job_labels_page", "job_labels", ["tenant_id", "key", "value", *_LABELS_NEWEST_FIRST])
    op.drop_column("job_labels", "kind")

    op.drop_index("ix_jobs_tenant_state_kind_created", "jobs")
    op.drop_index("ix_jobs_tenant_kind_created", "jobs")
    op.create_index("ix_jobs_tenant_state_created", "jobs", ["tenant_id", "state", *_NEWEST_FIRST])
    op.create_index("ix_jobs_tenant_created", "jobs", ["tenant_id", *_NEWEST_FIRST])
    _restrict_stages(_OLD_STAGES)
    op.drop_constraint(op.f("ck_jobs_kind"), "jobs")


def _restrict_stages(stages: str) -> None:
    op.drop_constraint(op.f("ck_jobs_stage"), "jobs")
    op.create_check_constraint(op.f("ck_jobs_stage"), "jobs", f"stage IN ({stages})")


def _key_curve_points(columns: list[str]) -> None:
    op.drop_constraint(op.f("pk_curve_points"), "curve_points")
    op.create_primary_key(op.f("pk_curve_points"), "curve_points", columns)
