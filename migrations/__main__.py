"""Alembic's own command line on our scripts: upgrade, downgrade, current, history, check, revision, ..."""

import sys

from alembic.config import CommandLine

from migrations import alembic_config


def main(arguments: list[str]) -> None:
    """Run one alembic command against DATABASE_URL."""
    command_line = CommandLine(prog="python -m migrations")
    options = command_line.parser.parse_args(arguments or ["--help"])
    config = alembic_config()
    config.cmd_opts = options
    command_line.run_cmd(config, options)


if __name__ == "__main__":
    main(sys.argv[1:])
