"""`modeconn serve`: the whole stack on one machine as child processes, the same entry points as in production."""
