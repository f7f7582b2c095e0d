"""What the OpenAPI document promises, tried by schemathesis on the real service: no 5xx, nothing undocumented."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis.errors import Flaky
from schemathesis.core.result import Ok

from store.settings import Settings

from ..scale import OPENAPI_CASES, OpenApiCases
from .openapi_cases import Trial, schema_of
from .openapi_world import World, a_world


@pytest.fixture
def world(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(settings, tmp_path_factory.mktemp("openapi")) as made:
        yield made


@pytest.fixture
def schema(world: World) -> schemathesis.BaseSchema:
    return schema_of(httpx.get(f"{world.url}/openapi.json").raise_for_status().json(), world)


# What one case does to the service cannot be undone for another try: nothing is replayed or shrunk.
COMMON = {"phases": [Phase.generate], "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
SEQUENCES = hypothesis.settings(max_examples=10, stateful_step_count=20, derandomize=False, **COMMON)


def modes_of(operation: schemathesis.APIOperation) -> list[schemathesis.GenerationMode]:
    """Valid requests; broken ones too where the document demands anything: any text will do for an id in a path."""
    told = operation.definition.raw
    demands = [
        {key: parameter["schema"][key] for key in parameter["schema"].keys() - {"title"}}
        for parameter in told.get("parameters", [])
    ]
    can_break = "requestBody" in told or any(demand != {"type": "string"} for demand in demands)
    return list(schemathesis.GenerationMode) if can_break else [schemathesis.GenerationMode.POSITIVE]


def try_alone(trial: Trial, operation: schemathesis.APIOperation, cases: int) -> None:
    """Valid and broken requests of one operation."""
    for mode in modes_of(operation):

        @hypothesis.settings(max_examples=cases, derandomize=True, **COMMON)
        @given(case=operation.as_strategy(generation_mode=mode))
        def attempt(case: schemathesis.Case) -> None:
            trial.check(case, trial.send(case))

        attempt()


def try_sequences(trial: Trial, schema: schemathesis.BaseSchema, cases: int) -> None:
    """Requests that follow the links: what one makes, the next ones use. On until there are so many cases in all."""

    class Sequence(schema.as_state_machine()):
        def call(self, case: schemathesis.Case, **kwargs: Any) -> schemathesis.Response:
            return trial.send(case)

        def validate_response(self, response: schemathesis.Response, case: schemathesis.Case, **kwargs: Any) -> None:
            trial.check(case, response, recorder=self.recorder)

    for number in itertools.count():
        if trial.statuses.total() >= cases:
            return
        with suppress(Flaky):  # the service remembers earlier sequences, which Hypothesis would rather not see
            hypothesis.seed(number)(Sequence).run(settings=SEQUENCES)


@pytest.mark.parametrize("amount", OPENAPI_CASES)
def test_the_service_keeps_what_the_document_promises(
    world: World, schema: schemathesis.BaseSchema, amount: OpenApiCases
) -> None:
    trial = Trial(world)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        try_alone(trial, found.ok(), amount.each)
    try_sequences(trial, schema, amount.in_all)
    print(trial)
    assert not trial.breaches, trial.verdict()
    assert not [status for status in trial.statuses if status >= 500]
