"""Errors of the core that a caller handles."""


class RepairStopped(Exception):
    """Raised when ``should_stop`` answered yes; nothing is left behind."""
