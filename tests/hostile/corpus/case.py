"""What a crafted file is: its name, its bytes, the problem that must come out, and the bait that it may carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Crafted = Mapping[str, tuple[bytes | Callable[[], bytes], str]]
"""name -> (bytes, or a builder of many of them; the key of `intake.problems.PROBLEMS` that must come out)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bait:
    """What a payload touches when it runs: a file that must never exist, and a local port where nobody must call."""

    file: Path
    port: int

    @property
    def command(self) -> str:
        """The shell command that takes the bait's file."""
        return f"touch {self.file}"

    @property
    def code(self) -> str:
        """The Python that takes both."""
        call = f"__import__('socket').create_connection(('127.0.0.1', {self.port}))"
        return f"[open({str(self.file)!r}, 'w').close(), {call}]"
