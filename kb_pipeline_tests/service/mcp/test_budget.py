"""No result takes more tokens than its caller allows, and what is left out can be had."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from mcp.types import CallToolResult, TextContent

from kb_pipeline.errors import UsageError
from kb_pipeline.installation import Installation
from kb_pipeline.service.cl100k import count_tokens
from kb_pipeline.service.cursors import SearchPlace
from kb_pipeline.service.mcp.budget import LEAST_TOKENS, fit, result_tokens
from kb_pipeline.service.mcp.results import JobShown, Kbs, KbShown
from kb_pipeline.service.mcp.server import TOOLS
from kb_pipeline.service.problems import VersionGone

NOW = datetime(2026, 12, 1, tzinfo=UTC)
_WORDS = [
    *("apples", "pears", "plums", "quinces", "orchard", "brandy", "dark cellar", "wooden shelves", "hard", "jam"),
    *("saw", "winter", "row", "chapter", "tree", "Äpfel", "Früchte", "kühl", "how", "where is", "the", "果", "40"),
]


def told(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


def run(home: Installation, tool: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    result = TOOLS[tool].run(home, arguments)
    return result.as_text(), result.as_structured()


def test_two_hundred_random_queries_stay_within_what_they_allow(ours: Installation) -> None:
    chance = random.Random(16)
    parts = 0
    for _ in range(200):
        allowed = chance.choice([LEAST_TOKENS, 700, 1000, 2000, 4000])
        text, structured = run(
            ours, "search_kb", kb="acme.docs", query=" ".join(chance.choices(_WORDS, k=chance.randint(1, 8))),
            k=chance.randint(1, 20), detail=chance.choice(["low", "full"]), max_tokens=allowed,
            mode=chance.choice(["hybrid", "vector", "keyword"]),
        )  # fmt: skip
        assert count_tokens(text) + count_tokens(json.dumps(structured, ensure_ascii=False)) <= allowed
        assert count_tokens(text) + count_tokens(json.dumps(structured)) <= allowed, "with ä as \\u00e4"
        assert structured["hits"] or not structured["left_out"]
        assert (structured["cursor"] is None) == (structured["left_out"] == 0)
        parts += structured["left_out"] > 0
    assert parts > 20


def test_a_search_that_did_not_fit_goes_on_where_it_stopped(ours: Installation) -> None:
    asked = {"kb": "acme.docs", "query": "fruit of the orchard", "k": 8, "mode": "vector"}
    whole = [hit["chunk"] for hit in run(ours, "search_kb", **asked, max_tokens=25_000)[1]["hits"]]
    assert len(whole) == 8
    found: list[str] = []
    cursor = None
    while len(found) < 8:
        part = run(ours, "search_kb", **asked | {"k": 8 - len(found)}, cursor=cursor, max_tokens=900)[1]
        found += [hit["chunk"] for hit in part["hits"]]
        cursor = part["cursor"]
    assert found == whole


def test_a_cursor_leads_on_in_its_own_search_and_data_alone(ours: Installation) -> None:
    asked = {"kb": "acme.docs", "query": "fruit of the orchard", "k": 8, "max_tokens": 900}
    cursor = run(ours, "search_kb", **asked)[1]["cursor"]
    for other in (
        {"query": "pears"},
        {"mode": "vector"},
        {"filters": {"type": "eq", "key": "language", "value": "en"}},
    ):
        with pytest.raises(UsageError, match="the cursor is of another search"):
            run(ours, "search_kb", **asked | other, cursor=cursor)
    deciding = {"query": asked["query"], "mode": "hybrid", "language": None, "filters": None}
    erased = SearchPlace(2, 1, "x").as_cursor(deciding)
    with pytest.raises(VersionGone, match="a document of version 2 was erased since"):
        run(ours, "search_kb", **asked, cursor=erased)


def test_answers_stay_within_what_they_allow_and_say_what_is_left_out(ours: Installation) -> None:
    chance = random.Random(16)
    verdicts, parts = set(), 0
    for _ in range(60):
        allowed = chance.choice([600, 800, 1000])
        question = " ".join(chance.choices(_WORDS, k=chance.randint(1, 8)))
        text, structured = run(
            ours, "ask_kb", kb="acme.docs", question=question, k=chance.randint(1, 20), max_tokens=allowed,
            language=chance.choice([None, "en", "ja"]),
        )  # fmt: skip
        assert result_tokens(text, structured) <= allowed
        assert (structured["sentences"] == []) == (structured["verdict"] == "refused")
        assert (f"Left out: {structured['left_out']}" in text) == (structured["left_out"] > 0)
        verdicts.add(structured["verdict"])
        parts += structured["left_out"] > 0
    assert verdicts == {"grounded", "refused"}
    assert parts > 0


def test_a_jobs_messages_that_do_not_fit_are_counted() -> None:
    def make(n: int) -> JobShown:
        return JobShown(
            job="j", kb="acme.docs", state="ready_with_warnings", has_ended=True, stage=None, percent=100, eta_s=None,
            version=1, requested_at=NOW, started_at=NOW, ended_at=NOW, counts={"pages_scraped": 3},
            messages=["http://a.example/ says ``` and more"] * n, left_out=100 - n,
        )  # fmt: skip

    found = fit(make, 100, 700)
    assert 0 < len(found.messages) < 100
    assert f"Messages left out: {found.left_out}; raise max_tokens." in found.as_text()
    assert found.as_text().endswith("\n````")


def test_a_passage_that_is_too_long_is_cut_and_says_so(ours: Installation) -> None:
    text, structured = run(ours, "search_kb", kb="acme.docs", query="pruning chapter", k=1, max_tokens=LEAST_TOKENS)
    (hit,) = structured["hits"]
    assert hit["text_is_cut"]
    whole = run(ours, "search_kb", kb="acme.docs", query="pruning chapter", k=1)[1]["hits"][0]
    assert whole["text"].startswith(hit["text"])
    assert not whole["text_is_cut"]
    assert ", cut," in text


@pytest.mark.parametrize("allowed", [LEAST_TOKENS, 1500])
def test_a_document_read_in_parts_is_the_document(ours: Installation, allowed: int) -> None:
    hit = run(ours, "search_kb", kb="acme.docs", query="pruning chapter", k=1)[1]["hits"][0]
    whole = ours.kb("acme/docs").document_by_id(hit["document"]).markdown
    parts, start = [], 0
    while start is not None:
        text, part = run(
            ours, "read_document", kb="acme.docs", document=hit["document"], max_tokens=allowed, **{"from": start}
        )
        assert result_tokens(text, part) <= allowed
        assert part["end"] == part["start"] + len(part["text"])
        parts.append(part["text"])
        start = part["next"]
    assert "".join(parts) == whole
    assert len(parts) > 2
    assert all(each.endswith("\n") for each in parts[:-1]), "parts end with a line"


def test_hits_lie_where_they_say(ours: Installation) -> None:
    found = run(ours, "search_kb", kb="acme.docs", query="pruning chapter plums", k=10, max_tokens=25_000)[1]
    for hit in found["hits"]:
        part = run(ours, "read_document", kb="acme.docs", document=hit["document"], **{"from": hit["start"]})[1]
        assert part["text"].startswith(hit["text"][: len(part["text"])])
        assert hit["end"] - hit["start"] == len(hit["text"])


def _kbs(n: int) -> Kbs:
    shown = KbShown(
        kb="acme.handbook", status="ready", live_version=1, documents=1, chunks=1, failures=0, last_refresh_at=None
    )
    return Kbs(kbs=[shown] * n, left_out=100 - n, cursor=None)


def test_as_much_as_fits_is_given() -> None:
    found = fit(_kbs, 100, 2000)
    size = len(found.kbs)
    assert 0 < size < 100
    assert result_tokens(found.as_text(), found.as_structured()) <= 2000
    more = _kbs(size + 1)
    assert result_tokens(more.as_text(), more.as_structured()) > 2000
    assert len(fit(_kbs, 3, 2000).kbs) == 3
    assert not fit(_kbs, 0, 1).kbs


def test_what_cannot_fit_is_an_error_that_says_how_much_it_takes() -> None:
    with pytest.raises(UsageError, match=r"max_tokens is 20; this takes \d\d at least"):
        fit(_kbs, 100, 20)


def test_escapes_count_as_hosts_write_them_and_never_cut_chinese_to_a_fifth() -> None:
    assert result_tokens("süß", {"a": "süß"}) >= count_tokens("süß") + count_tokens(json.dumps({"a": "süß"}))
    text = "果园手册" * 50
    plain = count_tokens(text) + count_tokens(json.dumps({"a": text}, ensure_ascii=False))
    assert plain <= result_tokens(text, {"a": text}) <= plain * 1.5
