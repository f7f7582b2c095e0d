"""Links between the repository's own texts: the file is there, and so is the heading."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from myst_parser.mdit_to_docutils.base import default_slugify

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / "README.md", ROOT / "DEVELOPMENT.md", *sorted((ROOT / "docs").glob("*.md"))]


def tokens(path: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(path.read_text())


def links(path: Path) -> list[str]:
    inline = [child for token in tokens(path) for child in token.children or []]
    return [str(child.attrs[name]) for child in inline for name in ("href", "src") if name in child.attrs]


def headings(path: Path) -> set[str]:
    found = tokens(path)
    titles = [after.content for token, after in pairwise(found) if token.type == "heading_open"]
    return {default_slugify(title.replace("`", "")) for title in titles}


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(text: Path) -> None:
    for link in links(text):
        if re.match(r"https://[a-z0-9.-]+/", link):
            continue  # elsewhere: nobody is asked while tests run
        path, _, heading = link.partition("#")
        target = (text.parent / path).resolve() if path else text
        assert target.exists(), f"{text.name} names {link}"
        assert target.is_relative_to(ROOT), link
        assert not heading or heading in headings(target), f"{text.name} names {link}"


def test_a_link_to_nothing_is_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.md"
    wrong.write_text("# A `code` heading\n\n[x](nowhere.md) ![y](no.png) [z](#a-code-heading)\n")
    assert links(wrong) == ["nowhere.md", "no.png", "#a-code-heading"]
    assert headings(wrong) == {"a-code-heading"}


def test_files_that_the_texts_name_in_code_are_there() -> None:
    """Paths like docs/records.md or client/serving/own.py, without a link."""
    suffixes = "py|md|yml|toml|sh|png|json"
    for text in TEXTS:
        for path in re.findall(rf"(?<![\w./-])((?:[a-z_]+/)+[\w.-]+\.(?:{suffixes}))(?![\w/])", text.read_text()):
            made = path.split("/")[0] not in {entry.name for entry in ROOT.iterdir()} or path.startswith("build/")
            assert made or (ROOT / path).exists() or "out/" in path, f"{text.name} names {path}"
