"""The `modeconn` command: one module per group of subcommands."""
