"""What people write after an option, as values: number lists, sizes, class lists, name=value."""

from pathlib import Path
from typing import Any


def numbers(text: str | None) -> tuple[float, ...] | None:
    """'0.49,0.48,0.45' -> floats. Raises ValueError with the text."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"'{text}' is not a comma-separated list of numbers, such as 0.49,0.48,0.45") from None


def height_width(text: str | None) -> tuple[int, int] | None:
    """'224x224' -> (224, 224). Raises ValueError with the text."""
    if text is None:
        return None
    try:
        height, width = text.lower().split("x")
        return int(height), int(width)
    except ValueError:
        raise ValueError(f"'{text}' is not HEIGHTxWIDTH, such as 224x224") from None


def class_names(text: str | None) -> tuple[str, ...] | None:
    """The lines of the file of that name, else the comma-separated names."""
    if text is None:
        return None
    if Path(text).is_file():
        return tuple(line.strip() for line in Path(text).read_text().splitlines() if line.strip())
    return tuple(name.strip() for name in text.split(","))


def pairs(texts: list[str] | None, convert: Any) -> dict[str, Any]:
    """['a=1'] -> {'a': convert('1')}. Raises ValueError with the text."""
    found = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"'{text}' is not name=value")
        found[name] = convert(value)
    return found


def number(text: str) -> int | float | str:
    """A whole number, a number, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
