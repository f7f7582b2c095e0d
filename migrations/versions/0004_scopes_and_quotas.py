"""What a key may do, and what a tenant may use.

Revision: 0004
Follows: 0003

Keys that exist may do everything. Of files that exist the size of the upload stands for that of the canonical form.
Going down revokes the keys that may not do everything, since they could then, and forgets the limits of tenants and
what was computed.
"""

import logging

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

log = logging.getLogger("alembic.runtime.migration")

ROLE = "modeconn_tenant"
_LIMITS = {
    "max_stored_bytes": sa.BigInteger(),
    "max_queued_jobs": sa.Integer(),
    "max_running_jobs": sa.Integer(),
    "max_compute_seconds": sa.Integer(),
}
_SCOPES = "ARRAY['read', 'write', 'keys']::text[]"
_TENANT = "NULLIF(current_setting('modeconn.tenant', true), '')::uuid"


def upgrade() -> None:
    op.add_column(
        "api_keys",
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), server_default=sa.text(_SCOPES), nullable=False),
    )
    op.alter_column("api_keys", "scopes", server_default=None)
    op.create_check_constraint(op.f("ck_api_keys_scopes"), "api_keys", f"scopes <@ {_SCOPES}")

    op.add_column("files", sa.Column("canonical_bytes", sa.BigInteger(), nullable=True))
    op.execute("UPDATE files SET canonical_bytes = bytes")
    op.alter_column("files", "canonical_bytes", nullable=False)

    for name, kind in _LIMITS.items():
        op.add_column("tenants", sa.Column(name, kind, nullable=True))
    stored = sa.Column("stored_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    op.add_column("tenants", stored)
    op.execute(
        """UPDATE tenants SET stored_bytes = sums.bytes
        FROM (SELECT tenant_id, sum(canonical_bytes) AS bytes FROM files
              WHERE canonical_path IS NOT NULL GROUP BY tenant_id) AS sums
        WHERE tenants.id = sums.tenant_id"""
    )
    op.execute(f"GRANT UPDATE (stored_bytes) ON tenants TO {ROLE}")

    op.add_column("jobs", sa.Column("held_back_at", sa.DateTime(timezone=True), nullable=True))
    waits = sa.text("state = 'queued' AND held_back_at IS NOT NULL")
    op.create_index("ix_jobs_held_back", "jobs", ["tenant_id", "created_at", "id"], postgresql_where=waits)
    _create_compute_spans()


def _create_compute_spans() -> None:
    op.create_table(
        "compute_spans",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_compute_spans_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "attempt", name=op.f("pk_compute_spans")),
    )
    op.create_index("ix_compute_spans_tenant_until", "compute_spans", ["tenant_id", "until"])
    op.execute("ALTER TABLE compute_spans ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own_rows ON compute_spans USING (tenant_id = {_TENANT})")
    op.execute("CREATE POLICY whole_service ON compute_spans TO CURRENT_USER USING (true)")
    op.execute(f"GRANT SELECT, UPDATE ON compute_spans TO {ROLE}")


def downgrade() -> None:
    narrow = sa.text(f"UPDATE api_keys SET revoked_at = now() WHERE revoked_at IS NULL AND NOT scopes @> {_SCOPES}")
    revoked = op.get_bind().execute(narrow).rowcount
    log.warning("revoked for good: %d keys with fewer than all scopes; forgotten: limits and compute", revoked)
    op.drop_table("compute_spans")
    op.drop_index("ix_jobs_held_back", "jobs")
    op.drop_column("jobs", "held_back_at")
    op.drop_column("tenants", "stored_bytes")
    for name in _LIMITS:
        op.drop_column("tenants", name)
    op.drop_column("files", "canonical_bytes")
    op.drop_constraint(op.f("ck_api_keys_scopes"), "api_keys")
    op.drop_column("api_keys", "scopes")
