"""The database's schema, step by step: `python -m migrations upgrade head` from any folder."""

from pathlib import Path

from alembic.config import Config


def alembic_config(database_url: str | None = None) -> Config:
    """Alembic's configuration; without `database_url`, env.py takes DATABASE_URL from the environment."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["database_url"] = database_url
    return config
