"""What an edit of a KB file changes, and what it costs."""

from __future__ import annotations

import pytest

from kb_pipeline.account import Account, SourceAccount
from kb_pipeline.operations.spec_changes import changed_fields, effects_of
from kb_pipeline.spec.kb_file import KbSpec, parse_spec, written_fields
from kb_pipeline.store.manifest import Counts

YAML = """
tenant: acme
kb: docs
sources:
  - {name: site, type: web, start_urls: ["https://a.example/${TOKEN}"], max_pages: 1000}
  - {name: wiki, type: web, start_urls: ["https://b.example/"], max_pages: 200, delay_s: 0}
publish: {max_shrink: 0.2}
retention: {versions: 5}
"""
LIVE = Counts(80, 1234)
ACCOUNT = Account(tuple(SourceAccount(name, 50, 40, 10, 0, ()) for name in ("site", "wiki")))


def _spec(yaml: str = YAML) -> KbSpec:
    return parse_spec(yaml, "kb.yaml", {"TOKEN": "secret"})


def test_fields_are_compared_as_they_are_written_and_sources_by_name() -> None:
    wiki, site = YAML.splitlines()[5], YAML.splitlines()[4]
    edited = YAML.replace(wiki, "").replace(site, f"{wiki.replace('200', '300')}\n{site}")
    edited = edited.replace("{versions: 5}", "{versions: 3}").replace("${TOKEN}", "${OTHER}")
    changes = changed_fields(written_fields(YAML), written_fields(edited))
    assert {each.field: (each.before, each.after) for each in changes} == {
        "sources.site.start_urls": (["https://a.example/${TOKEN}"], ["https://a.example/${OTHER}"]),
        "sources.wiki.max_pages": (200, 300),
        "retention.versions": (5, 3),
    }


def test_a_field_that_is_new_or_gone_has_no_value_before_or_after() -> None:
    edited = YAML.replace("retention: {versions: 5}", "chunking: {max_tokens: 128}")
    changes = changed_fields(written_fields(YAML), written_fields(edited))
    assert [(each.field, each.before, each.after) for each in changes] == [
        ("retention.versions", 5, None),
        ("chunking.max_tokens", None, 128),
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kb: docs", "kb: docs\nembedding: {model: all-MiniLM-L6-v2}",
         "all 1,234 chunks are embedded again with all-MiniLM-L6-v2; until that is published, the live version answers "
         "with multilingual-e5-small"),
        ("kb: docs", "kb: docs\nchunking: {max_tokens: 128}", "all 80 documents are chunked again"),
        ("{versions: 5}", "{versions: 2}", "published versions beyond the newest 2 are deleted"),
        ("max_pages: 1000", "max_pages: 500", "source site: its known pages are judged by the new rules"),
        ("name: wiki", "name: notes", "source notes is new: up to 200 pages are fetched, without a delay"),
        ("name: site", "name: docs", "source docs is new: up to 1,000 pages are fetched, at most one every 1 s of each "
         "host, 17 minutes if there are as many"),
        ("name: wiki", "name: notes", "source wiki: 40 of 80 documents go"),
        ("name: wiki", "name: notes", "held for approval: that is 50% of all documents, and publish.max_shrink is 0.2"),
    ],
)  # fmt: skip
def test_what_the_next_refresh_does_is_told(old: str, new: str, told: str) -> None:
    assert any(told in effect for effect in effects_of(_spec(), _spec(YAML.replace(old, new)), LIVE, ACCOUNT))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_shrink: 0.2", "max_shrink: 0.3"),
        ("{versions: 5}", "{versions: 9}"),
        ("kb: docs", "kb: docs\nlanguages: [en]"),
    ],
)
def test_what_costs_nothing_tells_nothing(old: str, new: str) -> None:
    assert not list(effects_of(_spec(), _spec(YAML.replace(old, new)), LIVE, ACCOUNT))


def test_a_new_kb_tells_what_is_fetched_first() -> None:
    first, second = effects_of(None, _spec(), None, None)
    assert first.startswith("source site is new: up to 1,000 pages")
    assert second.startswith("source wiki is new")
