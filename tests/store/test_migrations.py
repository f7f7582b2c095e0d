"""The schema: one head, the same as the models, and it goes up and down on a database in use."""

from alembic import command
from migrations import alembic_config


def test_models_and_migrations_agree(database_url: str) -> None:
    command.check(alembic_config(database_url))


def test_fix(settings, storage, tenant_id, other_tenant_id):
    assert tenant_id != other_tenant_id
