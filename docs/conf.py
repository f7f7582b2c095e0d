"""The documentation: `make docs` builds it by Sphinx; three of its pages are made from the service and the command."""

import json
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

from api.app import create_app
from api.problems import CATALOGUE
from client.cli import app as cli
from client.command.shared import Exit

HERE = Path(__file__).parent
MADE = HERE / "made"
ANSWERS = json.loads((HERE / "answers.json").read_text())

project = "ModeConn"
version = release = version_of("modeconn")
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Repairs tampered image classifiers", "fixed_sidebar": True, "nosidebar": False}
html_title = "ModeConn"
templates_path: list[str] = []


def setup(app: Any) -> None:
    """Called by Sphinx before it reads a page."""
    MADE.mkdir(exist_ok=True)
    (MADE / "troubleshooting.md").write_text(troubleshooting())
    (MADE / "commands.md").write_text(commands())
    (MADE / "api.md").write_text(reference(create_app().openapi()))


def commands() -> str:
    """Every subcommand as its own help has it, and the exit codes."""
    group = typer.main.get_command(cli)
    context = typer.Context(group, info_name="modeconn")
    codes = "\n".join(f"| {code.value} | {code.meaning} |" for code in Exit)
    told = get_docs_for_click(obj=group, ctx=context, name="modeconn", title="The command")
    return f"{told}\n## Exit codes\n\n| Code | When |\n| --- | --- |\n{codes}\n"


def troubleshooting() -> str:
    """Every problem type in the service's own words."""
    parts = ["# Troubleshooting", "What the service says when it refuses something, and the way out of each."]
    for slug, kind in sorted(CATALOGUE.items()):
        remedy = "" if kind.remedy.startswith("See `detail`") else f"\n\n*What to do:* {kind.remedy}"
        parts.append(f"## {kind.title}\n\n`/problems/{slug}`, status {kind.status}. {kind.meaning}{remedy}")
    return "\n\n".join(parts) + "\n"


def reference(document: dict[str, Any]) -> str:
    """Every route of the OpenAPI document: parameters, an example of the body where there is one, answers."""
    parts = ["# API reference", document["info"]["description"]]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"## {method.upper()} `{path}`\n\n{operation['summary']}. {operation.get('description', '')}")
            parts += filter(
                None,
                (
                    _parameters(operation),
                    _example(document, operation),
                    _answers(operation),
                    _answered(f"{method.upper()} {path}"),
                ),
            )
    return "\n\n".join(parts) + "\n"


def _parameters(operation: dict[str, Any]) -> str:
    rows = [f"- `{one['name']}` ({one['in']}): {one.get('description', '')}" for one in operation.get("parameters", [])]
    return "Parameters:\n\n" + "\n".join(rows) if rows else ""


def _example(document: dict[str, Any], operation: dict[str, Any]) -> str:
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    body = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
    found = body.get("examples")
    return f"```json\n{json.dumps(found[0], indent=2)}\n```" if found else ""


def _answered(route: str) -> str:
    """What a real service said (docs/record.py)."""
    answer = ANSWERS.get(route)
    return f"An answer, recorded:\n\n```json\n{json.dumps(answer, indent=2, ensure_ascii=False)}\n```" if answer else ""


def _answers(operation: dict[str, Any]) -> str:
    rows = [f"- **{status}** {answer['description']}" for status, answer in operation["responses"].items()]
    return "Answers:\n\n" + "\n".join(rows)
