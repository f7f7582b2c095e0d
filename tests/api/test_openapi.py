"""The OpenAPI document against the service: no answer is one that the document does not tell of, whatever is sent."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from store.settings import Settings
from tests.api.conftest import CLASSES, Server, Tenant, model_bytes, serving, zip_of
from tests.scale import OPENAPI_CASES

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
MODEL_METADATA = "kind bW9kZWw="
MANY = 1_000_000
SECONDS_TO_ANSWER = 60
STEPS = 12
"""Of one chain of requests, at most."""
STATEFUL_SHARE = 0.4
"""Of the cases, sent as parts of chains."""


@pytest.fixture(scope="module")
def generous(api_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on the shared database whose limits nobody reaches: 429 would hide what it answers else."""
    limits = {"max_queued_jobs": MANY, "max_queue_depth": MANY, "requests_per_minute": MANY}
    with serving(api_settings.model_copy(update=limits), tmp_path_factory.mktemp("generous")) as running:
        running.wait_until_ready()
        yield running


@dataclass
class Known:
    """What is there, put into most requests: what is drawn by chance is never there."""

    ids: dict[str, list[str]]
    bodies: list[bytes]

    def into_path(self, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        return {name: _one_of(self.ids.get(name, []), value) for name, value in (parameters or {}).items()}

    def into_headers(self, headers: dict[str, str] | None) -> dict[str, str] | None:
        return {name: _one_of(self.ids.get(name, []), value) for name, value in (headers or {}).items()}

    def into_body(self, body: Any) -> Any:
        if isinstance(body, dict):
            return body | {role: _one_of(self.ids[role], body[role]) for role in body.keys() & self.ids.keys()}
        return _one_of(self.bodies, body)


def _one_of(known: list[Any], drawn: Any) -> Any:
    """One that is known or, in a quarter of the cases, what was drawn; the same for the same."""
    choice, keep = divmod(zlib.crc32(repr(drawn).encode()), 4)
    return drawn if keep == 0 or not known else known[choice % len(known)]


@dataclass
class Asker:
    """Sends cases with the tenant's key, and checks every answer against the document."""

    key: str
    statuses: Counter[int] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)

    def send(self, case: Case) -> Response:
        self.spare_own_key(case)
        answer = case.call(headers=self.headers, timeout=SECONDS_TO_ANSWER)
        self.check(case, answer)
        return answer

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def spare_own_key(self, case: Case) -> None:
        """Requests that would end the key they are sent with go to another."""
        if case.path_parameters and case.path_parameters.get("key_id") == self.key.split("_")[1]:
            case.path_parameters["key_id"] = "anotherkeyid"

    def check(self, case: Case, answer: Response) -> None:
        self.statuses[answer.status_code] += 1
        self.routes[case.operation.label] += answer.status_code < 300
        try:
            case.validate_response(answer, checks=CHECKS)
        except Exception as breach:
            self.breaches.append(str(breach))  # Hypothesis may have something else to say in the end
            raise


@pytest.fixture
def known(tenant: Tenant, finished: str, finished_analysis: str, order: dict[str, Any], pair: dict[str, Any]) -> Known:
    """Files and jobs in different states, an open upload, a selection."""

    def made(route: str, body: dict[str, Any] | None = None, **headers: str) -> str:
        return str(tenant.http.post(route, json=body, headers=headers).raise_for_status().json()["id"])

    repairs, analyses = (
        [made(route, body) for _ in range(2)] for route, body in (("/repair", order), ("/analysis", pair))
    )
    cancelled = repairs[0]
    tenant.http.post(f"/repair/{cancelled}/cancel").raise_for_status()
    tus = {"Tus-Resumable": "1.0.0", "Upload-Metadata": MODEL_METADATA}
    return Known(
        ids={
            "job_id": [finished, finished_analysis, *repairs, *analyses],
            "selection_id": [made(f"/repair/{finished}/selections", {"t": 0.3})],
            "upload_id": [made("/files/resumable", **tus, **{"Upload-Length": "100000"})],
            "file_id": [order["suspect"], order["clean"], pair["robust"]],
            "key_id": [made("/keys", {"label": "spare"})],
            "name": ["trigger-0.png", "losses.png", "path.safetensors"],
            "slug": ["unknown-architecture"],
            **{role: [file_id] for role, file_id in (order | pair).items() if role != "architecture"},
            "architecture": [order["architecture"]],
            "preprocessing": [{}],
            "tus-resumable": ["1.0.0"],
            "upload-metadata": [MODEL_METADATA],
            "upload-offset": ["0"],
        },
        bodies=[model_bytes(), zip_of(CLASSES)],
    )


@pytest.fixture
def document(generous: Server, known: Known) -> Any:
    """The document as it is served; event streams of jobs that wait do not end, so test_events.py has these."""
    schema = schemathesis.openapi.from_url(f"{generous.url}/openapi.json").exclude(path_regex="/events$")
    schema.config.generation.with_security_parameters = False
    schema.hooks.register_hook_with_name(lambda ctx, value: known.into_path(value), "map_path_parameters")
    schema.hooks.register_hook_with_name(lambda ctx, value: known.into_headers(value), "map_headers")
    schema.hooks.register_hook_with_name(lambda ctx, value: known.into_body(value), "map_body")
    return schema


def drawn(cases: int) -> Any:
    """Settings of Hypothesis for so many cases, none of which is kept or shrunk: the first failure says enough."""
    return settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        stateful_step_count=STEPS,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("cases", OPENAPI_CASES)
def test_no_answer_is_unknown_to_the_document(cases: int, document: Any, tenant: Tenant) -> None:
    asker = Asker(tenant.key)
    one_by_one(document, asker, round(cases * (1 - STATEFUL_SHARE)))
    in_chains(document, asker, cases)
    never = sorted(route for route, count in asker.routes.items() if not count)
    print(f"{asker.statuses.total():,} cases: {dict(sorted(asker.statuses.items()))}; never answered well: {never}")
    assert asker.statuses.total() >= cases
    assert asker.breaches == []
    assert set(asker.statuses) <= set(range(200, 500))


def one_by_one(document: Any, asker: Asker, cases: int) -> None:
    """Each route, half with data as documented and half with other data."""
    operations = [found.ok() for found in document.get_all_operations()]
    each = -(-cases // (2 * len(operations)))
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(0)
            @drawn(each)
            @given(operation.as_strategy(generation_mode=mode))
            def ask(case: Case) -> None:
                asker.send(case)

            with suppress(Unsatisfiable):  # where there is nothing that could be wrong
                ask()


def in_chains(document: Any, asker: Asker, cases: int) -> None:
    """Requests that take their ids from earlier answers, until so many cases were sent in all."""
    document.config.generation.modes = [GenerationMode.POSITIVE]
    machine = document.as_state_machine()

    class Chain(machine):
        def before_call(self, case: Case) -> None:
            asker.spare_own_key(case)

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"headers": asker.headers, "timeout": SECONDS_TO_ANSWER}

        def validate_response(self, response: Response, case: Case, **_: Any) -> None:
            asker.check(case, response)

    round_number = 0
    while asker.statuses.total() < cases:
        Chain = seed(round_number)(Chain)
        with suppress(FlakyStrategyDefinition):  # the service remembers the chains before
            Chain.run(settings=drawn(20))
        round_number += 1
