"""Files of Markdown and plain text become documents: front matter, headings, links, HTML, fences."""

from __future__ import annotations

import pytest

from kb_pipeline.chunk.outline import read_outline
from kb_pipeline.clean.front_matter import split_front_matter
from kb_pipeline.clean.html.document import read_html
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.model import Document
from kb_pipeline_tests.clean.pages import raw

TEXT = "The ferry leaves the old quay every morning at eight, and tickets are sold beside the gate."


def read(body: str, content_type: str = "text/markdown", url: str = "https://site.test/guide/ferry.md") -> Document:
    result = read_html(raw(body, content_type, url), CleaningRules())
    assert isinstance(result, Document), result
    return result


@pytest.mark.parametrize(
    "front",
    [
        "---\ntitle: 'Ferry: times'\ndate: 2024-05-06\nlastmod: 2025-01-02T10:00:00Z\nlang: de\ntags: [a, b]\n---\n",
        '+++\ntitle = "Ferry: times"\ndate = 2024-05-06\nlastmod = 2025-01-02T10:00:00Z\nlang = "de"\n+++\n',
        '{\n"title": "Ferry: times", "date": "2024-05-06", "lastmod": "2025-01-02", "lang": "de"\n}\n',
        "---\ntitle: Ferry: times\ndate: 2024-05-06\nlastmod: 2025-01-02\nlang: de\n---\n",
    ],
)
def test_front_matter_describes_the_document_and_is_no_text_of_it(front: str) -> None:
    found = read(f"{front}\n{TEXT}")
    assert (found.title, found.published, found.modified) == ("Ferry: times", "2024-05-06", "2025-01-02")
    assert found.markdown.strip() == TEXT


def test_what_only_looks_like_front_matter_is_text() -> None:
    assert "A rule above" in read(f"---\n\nA rule above and one below, and no field between.\n\n---\n\n{TEXT}").markdown
    assert TEXT in read(f"---\ntitle: never ended\n\n{TEXT}").markdown
    assert split_front_matter("---\n" + "a: [" * 10_000 + "\n---\nx")[1].endswith("x")


def test_setext_headings_are_headings() -> None:
    found = read(f"Ferry\n=====\n\n{TEXT}\n\nWinter *times*\n------\n\n{TEXT}")
    assert found.title == "Ferry"
    assert found.markdown.startswith("# Ferry\n\n")
    assert read_outline(found.markdown).paths == [("Ferry",), ("Ferry", "Winter times")]


def test_links_and_images_are_absolute_also_those_by_reference() -> None:
    body = (
        f"# Links\n\n{TEXT} See [the lock](../lock.md), [fees][f], [f] and <https://other.test/>.\n\n"
        "![Map of the port](img/map.png)\n\n[f]: /fees.md 'Fees'\n"
    )
    found = read(body)
    assert "[the lock](https://site.test/lock.md)" in found.markdown
    assert found.markdown.count("(https://site.test/fees.md)") == 2
    assert "https://site.test/guide/img/map.png" in found.markdown
    assert "[f]:" not in found.markdown
    assert found.links == 4


def test_html_inside_is_cleaned_as_pages_are() -> None:
    body = (
        '<!-- a comment -->\n<h1 align="center">Ferry</h1>\n\n'
        f"{TEXT} Press <kbd>Enter</kbd>.<br>Go.\n\n<details><summary>Winter</summary>\n\nOnly *two* a day.\n\n"
        "</details>\n\n"
        "<table><tr><th>Day</th><th>Time</th></tr><tr><td>Monday</td><td>8.00</td></tr></table>\n\n<!-- TODO: more"
    )
    found = read(body)
    assert found.title == "Ferry"
    assert found.markdown.startswith("# Ferry\n\n")
    assert "Only *two* a day." in found.markdown
    assert "| Monday | 8.00 |" in found.markdown
    assert not any(piece in found.markdown for piece in ("<!--", "comment", "TODO", "<h1", "<kbd", "<td"))


def test_code_stays_as_it_is() -> None:
    code = "# no heading\nif a < b && c:\n    print('[x](y.md)')\n\n    <b>"
    found = read(f"# Code\n\n{TEXT}\n\n```python\n{code}\n```\n\n- item\n\n  ~~~\n  indented\n  ~~~\n")
    assert f"```python\n{code}\n```" in found.markdown
    assert read_outline(found.markdown).paths == [("Code",)]


@pytest.mark.parametrize("opening", ["> ```\n> code in quote", "- ~~~\n  code in item", "1. ```\n   code in item"])
def test_a_fence_ends_with_its_quote_or_item(opening: str) -> None:
    text = f"# Guide\n\n{TEXT}\n\n{opening}\n\n## After\n\n{TEXT}\n"
    assert read_outline(text).paths == [("Guide",), ("Guide", "After")], "the chunker by itself"
    assert read_outline(read(text).markdown).paths == [("Guide",), ("Guide", "After")]


def test_tables_lists_and_strikes_survive() -> None:
    found = read(
        f"# T\n\n{TEXT}\n\n| a | b |\n|---|---|\n| 1 | `x|y` |\n\n3. three\n4. four\n\n" + "- a\n  - b\n    - c\n"
    )
    assert "| 1 |" in found.markdown
    assert "3. three\n4. four" in found.markdown
    assert "- a\n  - b\n    - c" in found.markdown


def test_a_deep_list_loses_nothing() -> None:
    body = "\n".join("  " * depth + f"- level {depth} of the list" for depth in range(30))
    assert "level 29" in read(body).markdown


def test_a_number_sign_in_plain_text_is_a_comment() -> None:
    text = f"# config of the pump\nspeed = 12\n# end\n\n{TEXT}"
    found = read(text, "text/plain", "https://site.test/pump.conf.txt")
    assert found.title == "pump.conf.txt"
    assert "speed = 12\n" in found.markdown
    assert read_outline(found.markdown).paths == []


@pytest.mark.parametrize(
    ("content_type", "url"),
    [
        ("text/plain; charset=utf-8", "https://site.test/raw/main/README.md"),
        ("text/plain", "https://site.test/llms.txt"),
        ("application/octet-stream", "https://site.test/README.markdown?raw=true"),
        ("text/plain", "https://site.test/README"),
        ("", "https://site.test/README"),
        ("text/x-web-markdown; variant=GFM", "https://site.test/x"),
    ],
)
def test_markdown_is_told_by_type_name_or_text(content_type: str, url: str) -> None:
    found = read(f"# Ferry\n\n> {TEXT}\n\n## Docs\n\n- [Times](times.md): when it leaves\n", content_type, url)
    assert found.title == "Ferry"
    assert "[Times](https://site.test/" in found.markdown


def test_titles_of_restructuredtext_are_headings() -> None:
    text = (
        f"=====\nFerry\n=====\n\n{TEXT}\n\nWinter\n------\n\n{TEXT}\n\nSummer\n------\n\n* item\n\n"
        f"Tickets\n~~~~~~~\n\n{TEXT}\n"
    )
    found = read(text, "text/plain", "https://site.test/README.rst")
    assert found.title == "Ferry"
    assert read_outline(found.markdown).paths == [
        ("Ferry",), ("Ferry", "Winter"), ("Ferry", "Summer"), ("Ferry", "Summer", "Tickets"),
    ]  # fmt: skip
