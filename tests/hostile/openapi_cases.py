"""The cases of test_openapi: schemathesis' own, some of them given what it cannot guess, sent, counted and checked."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import Failure, FailureGroup

from ..api.tus import TUS
from .openapi_world import World

ARCHITECTURES = ("preact_resnet18", {"name": "preact_resnet18", "options": {"width": 4}}, None)
KINDS = ("model", "clean", "triggered")
PARTS_OF = {
    "POST /repair": {"suspect": "suspect", "clean": "clean", "triggered": "triggered", "second_model": "robust"},
    "POST /analysis": {"regular": "suspect", "robust": "robust", "clean": "clean"},
}
# Checks that ask what this test does not mean to: keys and methods have tests of their own, a valid request may well
# name what is not there (`_hold_refusal` asks instead), and a key that was made may have been ended by its rotation.
LEFT_OUT = (
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
    "positive_data_acceptance",
    "ensure_resource_availability",
)
# Demands that a schema cannot hold, or not exactly (its bounds are floats); the document's descriptions do.
SAID_IN_WORDS = (
    "less than 9223372036854775808",
    "should be in the future",
    "In the norm linf",
    "A plane needs",
    "Upload-Metadata",
)

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


@dataclass
class Trial:
    """Sends cases and keeps account: answers by status, and the first breach of each sort by operation."""

    world: World
    session: requests.Session = field(default_factory=requests.Session)
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    breaches: dict[tuple[str, str, int], str] = field(default_factory=dict)

    def send(self, case: schemathesis.Case) -> schemathesis.Response:
        """The answer, after what has to be done before and after it."""
        label = case.operation.label
        if label.endswith("/events"):
            self.world.end_all()
        if label.startswith(("DELETE /keys/", "POST /keys/")) and self.world.key_id in str(case.path_parameters):
            case.path_parameters["key_id"] = "our-own"
        headers = {"Authorization": f"Bearer {self.world.tenant.key}"}
        answer = case.call(base_url=self.world.url, session=self.session, headers=headers, timeout=60)
        self.statuses[answer.status_code] += 1
        self.operations[label] += 1
        if answer.status_code == 202:
            self.world.work()
        if label == "POST /files/resumable" and answer.status_code == 201:
            self.world.begin(answer.json()["id"])
        if label.startswith("DELETE /files/") and answer.status_code == 204:
            self.world.stock_up()
        return answer

    def check(self, case: schemathesis.Case, answer: schemathesis.Response, **more: Any) -> None:
        """Hold the answer against the document."""
        if answer.status_code == 422 and case.meta and case.meta.generation.mode.is_positive:
            self._hold_refusal(case, answer)
        try:
            case.validate_response(answer, **more)
        except FailureGroup as group:
            for failure in group.exceptions:
                self._keep(case, answer, failure)

    def _hold_refusal(self, case: schemathesis.Case, answer: schemathesis.Response) -> None:
        """The document calls the request valid: then it may be refused for what it means, not for its form."""
        is_of_form = answer.json()["type"] == "/problems/invalid-request"
        if is_of_form and not any(words in answer.text for words in SAID_IN_WORDS):
            sort = (case.operation.label, "Refused, though valid by the document", 422)
            self.breaches.setdefault(sort, f"{case.as_curl_command()}\n{answer.text[:500]}")

    def _keep(self, case: schemathesis.Case, answer: schemathesis.Response, failure: Failure) -> None:
        sort = (case.operation.label, failure.title, answer.status_code)
        self.breaches.setdefault(sort, f"{failure.message}\n{case.as_curl_command()}\n{answer.text[:500]}")

    def __str__(self) -> str:
        answers = ", ".join(f"{status}: {times}" for status, times in sorted(self.statuses.items()))
        return f"{self.statuses.total()} cases over {len(self.operations)} operations; answers {answers}"

    def verdict(self) -> str:
        """All breaches in words, each with the request that showed it; empty where there are none."""
        return "\n\n".join(f"{' '.join(map(str, sort))}\n{said}" for sort, said in sorted(self.breaches.items()))


def schema_of(document: dict[str, Any], world: World) -> schemathesis.BaseSchema:
    """The document as schemathesis reads it; valid cases get, now and then, what only this world knows."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=world.url)
    schema.config.generation.update(with_security_parameters=False, allow_extra_parameters=False)
    rejection = schema.config.checks.negative_data_rejection
    rejection.expected_statuses = [*rejection.expected_statuses, "412"]  # another version of tus
    for name in LEFT_OUT:
        getattr(schema.config.checks, name).enabled = False

    @schema.hook
    def flatmap_case(context: Any, case: schemathesis.Case) -> st.SearchStrategy[schemathesis.Case]:
        if case.meta is None or case.meta.generation.mode.is_negative:
            return st.just(case)
        return st.booleans().flatmap(lambda as_it_is: st.just(case) if as_it_is else told(case, world))

    return schema


def told(case: schemathesis.Case, world: World) -> st.SearchStrategy[schemathesis.Case]:
    """The case with files, bytes, offsets and points that are good ones here."""
    label = case.operation.label
    if label in PARTS_OF:
        return st.tuples(st.sampled_from(ARCHITECTURES), st.booleans()).map(lambda way: _order(case, world, *way))
    if label == "POST /files":
        return st.sampled_from(sorted(world.uploads)).map(lambda part: _upload(case, *world.uploads[part]))
    if label == "POST /files/resumable":
        return st.sampled_from(KINDS).map(lambda kind: _begin(case, kind))
    if "/files/resumable/" in label:
        return st.integers(0, 2).map(lambda offset: _send(case, offset))
    if label.endswith(("/weights", "/selections")):
        return st.sampled_from((0.25, 0.5, 1.0)).map(lambda t: _at(case, t))
    if label.endswith("/artifacts/{name}"):
        return st.sampled_from(("report.html", "picture.png", "path.safetensors")).map(lambda name: _named(case, name))
    return st.just(case)


def _order(case: schemathesis.Case, world: World, architecture: object, is_plain: bool) -> schemathesis.Case:
    parts = PARTS_OF[case.operation.label]
    body = case.body if isinstance(case.body, dict) else {}
    files = {
        name: world.files[part]
        for name, part in parts.items()
        if not is_plain or name in ("suspect", "clean", "regular", "robust")
    }
    kept = {name: body[name] for name in ("labels", "validate_only", "criteria") if name in body}
    rest = kept if is_plain else {name: value for name, value in body.items() if name != "classes"}
    case.body = rest | files | {"architecture": architecture}
    return case


def _upload(case: schemathesis.Case, kind: str, content: bytes) -> schemathesis.Case:
    case.query = {**(case.query or {}), "kind": kind}
    case.body = content
    return case


def _begin(case: schemathesis.Case, kind: str) -> schemathesis.Case:
    said = {"Upload-Length": "2", "Upload-Metadata": f"kind {base64.b64encode(kind.encode()).decode()}"}
    case.headers.update(TUS | said)
    return case


def _send(case: schemathesis.Case, offset: int) -> schemathesis.Case:
    case.headers.update(TUS | {"Upload-Offset": str(offset)})
    if case.operation.method == "patch":
        case.body = b"PK"[offset:]
    return case


def _at(case: schemathesis.Case, t: float) -> schemathesis.Case:
    if case.operation.method == "post":
        case.body = {"t": t}
    else:
        case.query = {"t": t}
    return case


def _named(case: schemathesis.Case, name: str) -> schemathesis.Case:
    case.path_parameters["name"] = name
    return case
