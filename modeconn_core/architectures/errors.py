"""What can be wrong with a named architecture; every message is a sentence for the person who named it."""


class ArchitectureError(ValueError):
    """The architecture cannot be built as asked."""


class UnknownArchitecture(ArchitectureError):
    """No architecture has this name; `nearest` holds the names that come closest, best first."""

    def __init__(self, name: str, nearest: list[str]) -> None:
        self.name, self.nearest = name, nearest
        hint = f" Did you mean {' or '.join(nearest[:3])}?" if nearest else ""
        super().__init__(f"No architecture is called {name!r}.{hint}")


class OptionsNotAccepted(ArchitectureError):
    """An option is unknown to the architecture, or its value is outside what it accepts."""
