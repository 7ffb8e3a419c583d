"""Wrong KB files: each error names file, line, field and what is allowed, and what was meant where that is near."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from kb_pipeline.errors import InvalidSpec, Position, Problem
from kb_pipeline.spec.kb_file import KbSpec, load_spec, parse_spec

VALID = """\
tenant: acme
kb: handbook
languages: [en, de]
sources:
  - name: site
    type: web
    start_urls: ["https://docs.example.com/"]
    sitemap: auto
    max_pages: 1000
    delay_s: 1.0
    render: never
chunking: {strategy: by_heading, max_tokens: 256}
schedule:
  cron: "0 */2 * * *"
  timezone: UTC
publish: {max_shrink: 0.2}
retention: {versions: 5}
"""
WEB = "name, type, start_urls, sitemap, scope, include, exclude, max_pages, max_depth, delay_s, trust_lastmod"
SLUG = "1 to 63 of a-z, 0-9 and '-'"
YAML = "(file)"

# What is replaced in the valid file, by what; then the place, the field, what is allowed, what was probably meant.
WRONG = [
    # names of fields
    ("max_pages", "max_page", "9:5", "sources.0.max_page", f"allowed here: {WEB}", "max_pages?"),
    ("max_pages", "maxPages", "9:5", "sources.0.maxPages", f"allowed here: {WEB}", "max_pages?"),
    ("delay_s", "delay-s", "10:5", "sources.0.delay-s", f"allowed here: {WEB}", "delay_s?"),
    ("start_urls", "urls", "7:5", "sources.0.urls", f"allowed here: {WEB}", "start_urls?"),
    ("tenant: acme", "tennant: acme", "1:1", "tennant", "allowed here: tenant, kb", "tenant?"),
    ("cron:", "crom:", "14:3", "schedule.crom", "allowed here: cron, timezone", "cron?"),
    ("retention:", "max_depth: 3\nretention:", "17:1", "max_depth", "allowed here: tenant", "a source of type web"),
    ("max_shrink: 0.2", "versions: 2", "16:11", "publish.versions", "allowed here: max_shrink", "belongs to retention"),
    ("render: never", "limits: {pages: 9}", "11:14", "sources.0.limits.pages", "allowed here: body_mb", ""),
    ("kb: handbook", "kb: handbook\n1: 2", "3:1", "1", "allowed here: tenant", ""),
    # what is not there
    ("tenant: acme\n", "", "1:1", "tenant", f"this field is required: {SLUG}", ""),
    ("    type: web\n", "", "5:5", "sources.0.type", "this field is required: files or web", ""),
    ("max_pages: 1000", "max_pages:", "9:15", "sources.0.max_pages", "a whole number from 1 to 1,000,000", ""),
    # values of another kind
    ("1000", "many", "9:16", "sources.0.max_pages", "a whole number from 1 to 1,000,000", ""),
    ("1000", "'1,000'", "9:16", "sources.0.max_pages", "a whole number from 1 to 1,000,000", "did you mean 1000?"),
    ("delay_s: 1.0", "delay_s: .nan", "10:14", "sources.0.delay_s", "a number from 0 to 3,600", ""),
    ('["https://docs.example.com/"]', "https://docs.example.com/", "7:17", "sources.0.start_urls", "a list",
     "start_urls: ['https://docs.example.com/']"),
    ("  - name: site", "    name: site", "4:1", "sources", "a list that is not empty", ""),
    ("retention: {versions: 5}", "retention: 5", "17:12", "retention", "a mapping with versions", "{versions: 5}"),
    ('schedule:\n  cron: "0 */2 * * *"\n  timezone: UTC', 'schedule: "0 3 * * *"', "13:11", "schedule",
     "a mapping with cron, timezone", "{cron: '0 3 * * *'}"),
    ("kb: handbook", "kb: 2024", "2:5", "kb", SLUG, "kb: '2024'"),
    # values out of range, or not among those that are known
    ("1000", "0", "9:16", "sources.0.max_pages", "a whole number from 1 to 1,000,000", ""),
    ("max_tokens: 256", "max_tokens: 32", "12:46", "chunking.max_tokens", "a whole number from 64 to 8,192", ""),
    ("max_tokens: 256", "max_tokens: 256, overlap_tokens: 200", "12:11", "chunking", "at most half of max_tokens", ""),
    ("max_shrink: 0.2", "max_shrink: 20", "16:23", "publish.max_shrink", "a number from 0 to 1", "0.2"),
    ("max_shrink: 0.2", "max_shrink: 20%", "16:23", "publish.max_shrink", "a number from 0 to 1", "0.2?"),
    ("render: never", "render: alway", "11:13", "sources.0.render", "never, auto or always", "always?"),
    ("render: never", "render: true", "11:13", "sources.0.render", "never, auto or always", ""),
    ("type: web", "type: website", "6:11", "sources.0.type", "files or web", "web?"),
    ("sitemap: auto", "sitemap: aut", "8:14", "sources.0.sitemap", "auto, off or a list", "auto?"),
    # texts of a form
    ("tenant: acme", "tenant: Acme", "1:9", "tenant", SLUG, "acme?"),
    ("handbook", "Hand Book", "2:5", "kb", SLUG, "hand-book?"),
    ("[en, de]", "[en-US, de]", "3:13", "languages.0", "an ISO 639 code", "en?"),
    ("https://docs.example.com/", "docs.example.com", "7:18", "sources.0.start_urls.0", "absolute http://",
     "https://docs.example.com?"),
    ("https:", "ftp:", "7:18", "sources.0.start_urls.0", "absolute http://", ""),
    ("sitemap: auto", "sitemap: [docs.example.com/map.xml]", "8:15", "sources.0.sitemap.0", "absolute http://",
     "https://docs.example.com/map.xml?"),
    ('"0 */2 * * *"', '"@daily"', "14:9", "schedule.cron", "a cron expression of five fields", "'0 3 * * *'?"),
    ("timezone: UTC", "timezone: Europe/Berln", "15:13", "schedule.timezone", "IANA time zones", "Europe/Berlin?"),
    ("timezone: UTC", "max_age: 7", "15:12", "schedule.max_age", "a number with a unit", "7d?"),
    ("timezone: UTC", "max_age: 7 days", "15:12", "schedule.max_age", "a number with a unit", "7d?"),
    # golden queries
    ("max_shrink: 0.2", "queries: [{question: x, text: y}]", "16:21", "publish.queries.0.query", "required", ""),
    ("max_shrink: 0.2", "queries: [{query: z}]", "16:21", "publish.queries.0", "give either key", ""),
    # YAML
    ("kb: handbook", "kb: handbook\nkb: x", "3:1", "kb", "a field may be given once", "as in line 2"),
    ("    delay_s", "    max_pages: 5\n    delay_s", "10:5", "sources.0.max_pages", "a field may be given once",
     "as in line 9"),
    ("    max_pages", "\tmax_pages", "9:1", YAML, "indented with spaces: replace the tab", ""),
    ("retention:", "---\nretention:", "17:1", YAML, "a file holds one document", ""),
    ("    render: never", "   render: never", "11:4", YAML, "indented alike", ""),
    ("kb: handbook", "kb:handbook", "3:1", YAML, "with a space after the colon", ""),
    ('/"]', '/"', "7:17", YAML, "not closed", ""),
    ('"https', "'https", "7:18", YAML, "not closed", ""),
    ("render: never", "include: [*.md]", "11:16", YAML, "a text that begins with * stands in quotes", ""),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "where", "field", "allowed", "meant"), WRONG)
def test_an_error_says_where_what_is_allowed_and_what_was_meant(
    old: str, new: str, where: str, field: str, allowed: str, meant: str
) -> None:
    assert old in VALID
    told = _error(VALID.replace(old, new, 1))
    line = next(line for line in told.splitlines() if f"kb.yaml:{where}: " in line)
    assert line.strip().startswith(f"kb.yaml:{where}: {field}: got ")
    assert allowed in line
    assert meant in line


def _error(yaml: str) -> str:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(yaml, "kb.yaml")
    return str(caught.value)


def test_the_line_is_quoted_with_a_caret_below_the_place() -> None:
    assert _error(VALID.replace("1000", "many")).splitlines()[1:] == [
        "  kb.yaml:9:16: sources.0.max_pages: got 'many'; allowed is a whole number from 1 to 1,000,000",
        "          max_pages: many",
        "                     ^",
    ]


def test_a_caret_stands_below_wide_characters_and_in_long_lines() -> None:
    wide = Position("kb.yaml", 1, 4, "日本: x")
    assert wide.excerpt() == "日本: x\n     ^"
    long = Position("kb.yaml", 1, 501, "a" * 500 + "!" + "b" * 500)
    line, caret = long.excerpt().split("\n")
    assert (len(line), line[len(caret) - 1]) == (100, "!")
    assert Position("kb.yaml", 1, 3, "\t\x1bx").excerpt() == "  x\n  ^"


def test_a_union_is_told_once_of_the_branch_that_was_written() -> None:
    assert _error(VALID.replace("sitemap: auto", "sitemap: [7]")).count("got ") == 1
    assert _error(VALID.replace("sitemap: auto", "sitemap: often")).count("got ") == 1


def test_words_that_yaml_reads_as_false_are_understood() -> None:
    spec: KbSpec = parse_spec(VALID.replace("sitemap: auto", "sitemap: off").replace("[en, de]", "[en, no]"), "kb.yaml")
    assert spec.sources[0].model_dump()["sitemap"] == "off"
    assert spec.languages == ["en", "no"]


@pytest.mark.parametrize("text", ["", "- a list", "a text", "\0", "a: &a [*a]\n", "[" * 5000])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert "(file): got " in _error(text)


def test_aliases_that_come_to_billions_of_values_are_refused_at_once() -> None:
    lines = [f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in pairwise("abcdefghij")]
    assert "aliases may repeat values until" in _error("\n".join(["a: &a [1, 1]", *lines]))


def test_an_alias_and_a_merge_are_as_good_as_what_they_repeat() -> None:
    yaml = VALID.replace("chunking: {", "chunking: &sizes {").replace(
        "publish:", "embedding: {<<: {precision: auto}}\npublish:"
    )
    assert parse_spec(yaml, "kb.yaml").embedding.precision == "auto"


def test_a_problem_of_golden_queries_names_their_file(tmp_path: Path) -> None:
    (tmp_path / "golden.yaml").write_text("- {query: how to start, text: make demo}\n- {query: how to stop}\n")
    (tmp_path / "kb.yaml").write_text(VALID.replace("{max_shrink: 0.2}", "{queries: golden.yaml}"))
    with pytest.raises(InvalidSpec, match=r"golden\.yaml:2:3: publish\.queries\.1: got a mapping; give either key"):
        load_spec(tmp_path / "kb.yaml")


def test_a_file_of_golden_queries_that_is_missing_may_be_meant_by_another(tmp_path: Path) -> None:
    (tmp_path / "golden.yaml").write_text("[]")
    (tmp_path / "kb.yaml").write_text(VALID.replace("{max_shrink: 0.2}", "{queries: goldn.yaml}"))
    with pytest.raises(
        InvalidSpec, match=r"kb\.yaml:16:20: publish\.queries: got 'goldn\.yaml'; did you mean golden\.yaml"
    ):
        load_spec(tmp_path / "kb.yaml")


def test_no_value_is_shown_nor_guessed_when_it_may_be_a_secret() -> None:
    yaml = VALID.replace("https://docs.example.com/", "${TOKEN}")
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(yaml, "kb.yaml", {"TOKEN": "hunter2.example.com"})
    assert "hunter2" not in str(caught.value)
    assert "kb.yaml:7:18: sources.0.start_urls.0: got a value (hidden)" in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "kb.yaml").write_bytes(b"\xef\xbb\xbf" + VALID.encode())
    assert str(load_spec(tmp_path / "kb.yaml").spec.key) == "acme/handbook"


def test_a_problem_without_a_position_is_one_line() -> None:
    assert str(InvalidSpec("kb.yaml", [Problem("kb", "'x'", "allowed is y")])).endswith("\n  kb: got 'x'; allowed is y")
