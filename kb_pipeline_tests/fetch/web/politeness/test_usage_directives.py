"""What pages may say of their use: who is addressed, what is obeyed, what is kept as evidence."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from kb_pipeline.fetch.web.politeness.usage_directives import add_page_directives, forbids, from_response, has_nofollow

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def _of_tag(tag: str) -> str | None:
    return from_response({"x-robots-tag": tag}, (), NOW)


@pytest.mark.parametrize(
    ("tag", "noindex", "nofollow"),
    [
        ("noindex", True, False),
        ("NOINDEX, nofollow", True, True),
        ("none", True, True),
        ("all", False, False),
        ("noarchive", False, False),
        ("googlebot: noindex", False, False),
        ("googlebot: noindex, nofollow", False, False),
        ("googlebot: nofollow\nnoindex", True, False),
        ("kb_pipeline: noindex", True, False),
        ("max-snippet: 0, noindex", True, False),
        ("unavailable_after: 2026-01-01", True, False),
        ("unavailable_after: Friday, 25-Dec-2020 15:00:00 GMT, nofollow", True, True),
        ("unavailable_after: 25 Dec 2026 15:00:00 GMT", False, False),
        ("unavailable_after: some day", False, False),
    ],
)
def test_directives_of_a_response(tag: str, noindex: bool, nofollow: bool) -> None:
    evidence = _of_tag(tag)
    assert (forbids(evidence, "noindex"), forbids(evidence, "nofollow")) == (noindex, nofollow)


def test_page_and_response_speak_together() -> None:
    meta_tags = [
        ("viewport", "width=1"),
        ("robots", "noarchive, noai"),
        ("googlebot", "noindex"),
        ("kb_pipeline", "nofollow"),
    ]
    evidence = add_page_directives(_of_tag("noindex"), meta_tags, NOW)
    assert json.loads(evidence or "") == {
        "directives": ["noindex", "noarchive", "noai", "nofollow"],
        "x-robots-tag": ["noindex"],
        "meta": ["noarchive, noai", "nofollow"],
    }
    assert forbids(evidence, "noai")


def test_content_signals_are_kept() -> None:
    evidence = from_response({"content-signal": "ai-train=no"}, ["search=yes, ai-input=no"], NOW)
    assert json.loads(evidence or "") == {"content-signal": ["ai-train=no"], "robots.txt": ["search=yes, ai-input=no"]}
    assert not forbids(evidence, "noindex")


def test_nothing_said_leaves_no_evidence() -> None:
    assert from_response({}, (), NOW) is None
    assert add_page_directives(None, [("description", "noindex")], NOW) is None
    assert not forbids(None, "noindex")


def test_evidence_is_bounded() -> None:
    assert len(_of_tag("x" * 100_000) or "") < 2000


def test_nofollow_of_a_page() -> None:
    assert has_nofollow([("robots", "index, NoFollow")])
    assert not has_nofollow([("otherbot", "nofollow")])
