"""Row-level security: what a request does runs as the role `modeconn_tenant` and sees its own tenant's rows alone.

Revision: 0003
Follows: 0002

The tenant is the setting `modeconn.tenant` of the transaction (store/database.py); without it nothing is seen. The role
that migrates, which the workers use too, sees everything; any other role is treated like a tenant. This guards against
a forgotten WHERE, not against SQL that a caller could write: such SQL could set another tenant.

Roles belong to the whole cluster, so going down takes the role's rights in this database and leaves the role.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ROLE = "modeconn_tenant"
_TENANT = "NULLIF(current_setting('modeconn.tenant', true), '')::uuid"
_OF_TENANT = ("api_keys", "files", "idempotency_keys", "job_labels", "jobs")  # tables with the column tenant_id
_OF_JOB = ("analysis_points", "artifacts", "curve_points", "job_events", "selections")  # a job's rows
_RIGHTS = {
    "SELECT": ("tenants", *_OF_TENANT, *_OF_JOB),
    "INSERT": (*_OF_TENANT, "job_events", "selections"),
    "UPDATE": ("api_keys", "files", "jobs", "selections"),
    "UPDATE (name)": ("tenants",),  # to lock a row one must be allowed to update some column of it
}
# How many jobs of all tenants are queued before this one: a number, and nothing else of theirs.
_QUEUED_BEFORE = """
CREATE FUNCTION queued_before(moment timestamptz, job uuid, at_most integer) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
BEGIN ATOMIC
    SELECT count(*) FROM (
        SELECT FROM jobs WHERE state = 'queued' AND (created_at, id) < (moment, job)
        ORDER BY created_at, id LIMIT at_most
    ) AS counted;
END
"""


def upgrade() -> None:
    # Two databases of one cluster may be migrated at the same time.
    op.execute(
        f"DO $$ BEGIN CREATE ROLE {ROLE} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    op.execute(f"GRANT {ROLE} TO CURRENT_USER")
    op.execute(f"GRANT USAGE ON SCHEMA public TO {ROLE}")
    for right, tables in _RIGHTS.items():
        op.execute(f"GRANT {right} ON {', '.join(tables)} TO {ROLE}")

    _secure("tenants", f"id = {_TENANT}")
    for table in _OF_TENANT:
        _secure(table, f"tenant_id = {_TENANT}")
    for table in _OF_JOB:  # the job is looked up by its key, once a row; jobs has its own policy
        _secure(table, f"(SELECT jobs.tenant_id FROM jobs WHERE jobs.id = {table}.job_id) = {_TENANT}")

    op.execute(_QUEUED_BEFORE)
    op.execute("REVOKE EXECUTE ON FUNCTION queued_before FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION queued_before TO {ROLE}")


def _secure(table: str, is_own: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own_rows ON {table} USING ({is_own})")
    op.execute(f"CREATE POLICY whole_service ON {table} TO CURRENT_USER USING (true)")


def downgrade() -> None:
    op.execute("DROP FUNCTION queued_before")
    for table in ("tenants", *_OF_TENANT, *_OF_JOB):
        op.execute(f"DROP POLICY own_rows ON {table}")
        op.execute(f"DROP POLICY whole_service ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
        op.execute(f"REVOKE ALL ON {table} FROM {ROLE}")
    op.execute(f"REVOKE USAGE ON SCHEMA public FROM {ROLE}")
