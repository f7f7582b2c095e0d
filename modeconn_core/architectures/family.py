"""What a family of architectures is: a name, a builder, the options it accepts and a guess at them from shapes."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from modeconn_core.architectures.errors import ArchitectureError, OptionsNotAccepted

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Options = dict[str, Any]

MAX_CLASSES = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One accepted option. A default of None means: what the library itself would take."""

    default: bool | int | float | str | None
    accepts: Collection[Any]

    def refuses(self, value: Any) -> bool:
        """True if the value is not the default and not among the accepted ones (True is not 1, 1.0 is not 1)."""
        if value is None:
            return self.default is not None
        kind = type(self.default if self.default is not None else next(iter(self.accepts)))
        return type(value) is not kind or value not in self.accepts

    def says(self) -> str:
        """The accepted values in words."""
        if isinstance(self.accepts, range):
            return f"a whole number from {self.accepts[0]} to {self.accepts[-1]}"
        return "one of " + ", ".join(map(repr, self.accepts))


WIDTH_LIMIT = range(1, 1025)
IN_CHANNELS = Option(default=3, accepts=range(1, 17))


def no_guess(shapes: Shapes) -> Iterable[Options]:
    """For families whose options change no shape: the defaults are the only thing to try."""
    return [{}]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A named architecture.

    `make(num_classes, **options)` returns the module. `options` is None where anything is passed on (plug-ins).
    `guess(shapes)` is cheap, builds nothing, and yields the options worth trying for these tensors: none if the
    tensors cannot be of this family.
    """

    name: str
    make: Callable[..., nn.Module]
    options: Mapping[str, Option] | None = field(default_factory=dict)
    guess: Callable[[Shapes], Iterable[Options]] = no_guess

    def settle(self, options: Mapping[str, Any]) -> Options:
        """The options that differ from the defaults, sorted by name.

        Raises OptionsNotAccepted for an unknown option or a value outside its range.
        """
        if self.options is None:
            return dict(sorted(options.items()))
        for name, value in options.items():
            if name not in self.options:
                known = f"It accepts {', '.join(sorted(self.options))}." if self.options else "It accepts none."
                raise OptionsNotAccepted(f"{self.name} has no option {name!r}. {known}")
            if self.options[name].refuses(value):
                raise OptionsNotAccepted(
                    f"{self.name}: {name} = {value!r} is not accepted; give {self.options[name].says()}."
                )
        return {name: value for name, value in sorted(options.items()) if value != self.options[name].default}

    def build(self, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
        """The module in training mode with fresh weights. Raises OptionsNotAccepted or ArchitectureError."""
        if type(num_classes) is not int or not 2 <= num_classes <= MAX_CLASSES:
            raise OptionsNotAccepted(f"num_classes = {num_classes!r} is not a whole number from 2 to {MAX_CLASSES}.")
        settled = self.settle(options)
        try:
            return self.make(num_classes, **settled)
        except Exception as error:  # libraries and plug-ins raise what they like
            with_options = f" with {settled}" if settled else ""
            raise ArchitectureError(f"{self.name}{with_options} cannot be built: {error}") from error


def block_counts(shapes: Shapes, stem: str = "layer") -> tuple[int, ...]:
    """Blocks in `<stem>1.N.`, `<stem>2.N.`, ...: (2, 2, 2, 2) for a ResNet-18."""
    last: dict[int, int] = {}
    for name in shapes:
        stage, _, rest = name.partition(".")
        index = rest.partition(".")[0]
        if stage.startswith(stem) and stage[len(stem) :].isdecimal() and index.isdecimal():
            number = int(stage[len(stem) :])
            last[number] = max(last.get(number, 0), int(index) + 1)
    return tuple(last[number] for number in sorted(last))
