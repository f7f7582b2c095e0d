"""Bodies of the problem pages."""

from pydantic import BaseModel


class Explanation(BaseModel):
    """What a problem type means and what to do about it."""

    type: str
    status: int
    title: str
    meaning: str
    remedy: str


class Explanations(BaseModel):
    """All problem types."""

    items: list[Explanation]
