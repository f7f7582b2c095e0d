"""Links in the OpenAPI document: which routes take the id that a POST has just answered with."""

import re
from typing import Any

_CREATED = ("201", "202")
_PARAMETER = re.compile(r"\{(\w+)\}")


def add_links(document: dict[str, Any]) -> None:
    """Link every POST that makes something with the routes below its own path, which are about what it made."""
    for path, methods in document["paths"].items():
        for status in _CREATED:
            answer = methods.get("post", {}).get("responses", {}).get(status)
            if links := _links_below(document, path) if answer else {}:
                answer["links"] = links


def _links_below(document: dict[str, Any], path: str) -> dict[str, dict[str, Any]]:
    """Links by operation id. `path`'s own parameters are passed on; the first one after it is the new id."""
    links = {}
    for other, methods in document["paths"].items():
        if not other.startswith(path + "/{"):
            continue
        given = {name: f"$request.path.{name}" for name in _PARAMETER.findall(path)}
        new = _PARAMETER.findall(other.removeprefix(path))[0]
        for operation in methods.values():
            parameters = given | {new: "$response.body#/id"}
            links[operation["operationId"]] = {
                "operationId": operation["operationId"],
                "parameters": parameters,
                "description": f"{operation['summary']}.",
            }
    return links
