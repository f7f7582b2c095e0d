"""How often each fault is tried: the short form belongs to `make test`, the long one to `make chaos`."""

import pytest


def _short_and_long(short: int, long: int) -> list[object]:
    return [pytest.param(short, id="short"), pytest.param(long, id="long", marks=pytest.mark.chaos)]


STATE_MACHINE_STEPS = _short_and_long(1_500, 50_000)
CLAIM_RACES = _short_and_long(60, 5_000)
BIT_FLIPS = _short_and_long(60, 300)
KILLED_UPLOADS = _short_and_long(20, 200)
