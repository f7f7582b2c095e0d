"""Resumable uploads, and files that are listed and known by their hash.

Revision: 0005
Follows: 0004

Going down gives up the uploads that are not whole yet, and takes back the bytes that were reserved for them. What had
come of them is removed with the other leftovers of the storage.
"""

import logging

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

log = logging.getLogger("alembic.runtime.migration")

ROLE = "modeconn_tenant"
_TENANT = "NULLIF(current_setting('modeconn.tenant', true), '')::uuid"
_NOT_WHOLE = "file_id IS NULL AND problem IS NULL"


def upgrade() -> None:
    op.create_table(
        "partial_uploads",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=True),
        sa.Column("problem", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('model', 'clean', 'triggered')", name=op.f("ck_partial_uploads_kind")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_partial_uploads_tenant_id")),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], name=op.f("fk_partial_uploads_file_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partial_uploads")),
    )
    op.create_index("ix_partial_uploads_tenant_id", "partial_uploads", ["tenant_id"])
    op.create_index("ix_partial_uploads_expires_at", "partial_uploads", ["expires_at"])
    op.execute("ALTER TABLE partial_uploads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own_rows ON partial_uploads USING (tenant_id = {_TENANT})")
    op.execute("CREATE POLICY whole_service ON partial_uploads TO CURRENT_USER USING (true)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON partial_uploads TO {ROLE}")

    newest_first = ["tenant_id", sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index("ix_files_tenant_created", "files", newest_first)
    alive = sa.text("deleted_at IS NULL")
    op.create_index("ix_files_tenant_sha256", "files", ["tenant_id", "sha256"], postgresql_where=alive)


def downgrade() -> None:
    op.drop_index("ix_files_tenant_sha256", "files")
    op.drop_index("ix_files_tenant_created", "files")
    op.execute(
        f"""UPDATE tenants SET stored_bytes = stored_bytes - sums.bytes
        FROM (SELECT tenant_id, sum(bytes) AS bytes FROM partial_uploads WHERE {_NOT_WHOLE} GROUP BY tenant_id) AS sums
        WHERE tenants.id = sums.tenant_id"""
    )
    count = op.get_bind().scalar(sa.text(f"SELECT count(*) FROM partial_uploads WHERE {_NOT_WHOLE}"))
    log.warning("given up: %d resumable uploads that were not whole", count)
    op.drop_table("partial_uploads")
