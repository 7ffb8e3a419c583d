"""A draft becomes a KB and a job, or stays: whenever it is killed on the way; its preview is what is published."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import kb_pipeline
from kb_pipeline.control.kbs.catalog import is_operators, list_kbs
from kb_pipeline.control.runs.jobs import list_jobs
from kb_pipeline.index.document_chunks import chunks_of_document
from kb_pipeline.index.documents import list_documents, read_document
from kb_pipeline.model import KbKey
from kb_pipeline.settings import as_environment
from kb_pipeline_tests import warm
from kb_pipeline_tests.operations.home import MODEL, Home, quick_refreshes, web_source
from kb_pipeline_tests.site import Site, plant_orchard, serve_site

STEPS = ("draft.checked", "draft.stored", "draft.requested", "draft.deleted", "draft.answered", "draft.finished")


@pytest.fixture(scope="module")
def orchard() -> Iterator[Site]:
    with serve_site() as site:
        plant_orchard(site)
        yield site


@pytest.fixture
def drafting(tmp_path: Path, models_dir: Path) -> Home:
    return Home(tmp_path / "home", models_dir)


def body(site: Site, kb: str = "docs") -> dict[str, object]:
    return {"kb": kb, "sources": [web_source(site)], "embedding": {"model": MODEL}}


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_between_any_two_steps_leaves_the_draft_or_its_job(drafting: Home, orchard: Site, step: str) -> None:
    with kb_pipeline.open(settings=drafting.settings) as opened:
        draft = opened.drafts.create(body(orchard), "acme").id
    environment = os.environ | as_environment(drafting.settings)
    arguments = ["acme", draft]
    program = "kb_pipeline_tests.operations.finalize_once"
    killed = warm.run(program, arguments, environment | {"KB_FAILPOINT": step})
    assert killed.returncode != 0, "it was passed and nobody died"
    with kb_pipeline.open(settings=drafting.settings) as opened:
        drafts, jobs = opened.drafts.list("acme"), list_jobs(drafting.db, "acme")
        kbs = [str(kb.key) for kb in list_kbs(drafting.db)]
    assert (len(drafts), len(jobs), kbs) == ((0, 1, ["acme/docs"]) if step == "draft.finished" else (1, 0, []))
    again = warm.run(program, arguments, environment)
    assert again.returncode == 0, again.stderr
    jobs = list_jobs(drafting.db, "acme")
    assert [job.id for job in jobs] == [json.loads(again.stdout)["job_id"]], "the same key is the same job"


def test_a_preview_is_what_a_refresh_publishes(drafting: Home, orchard: Site) -> None:
    with kb_pipeline.open(settings=drafting.settings) as opened, quick_refreshes():
        draft = opened.drafts.create(body(orchard), "acme").id
        preview = opened.drafts.preview(draft, 3, "acme")
        done = opened.drafts.finalize(draft, "acme")
        assert drafting.refresh(done.kb).status == "ready"
    version = drafting.reader(KbKey("acme", "docs"))
    ids = {document.key: document.document_id for document in list_documents(version)}
    assert len(preview.pages) == 3
    for page in preview.pages:
        stored = read_document(version, page.key)
        assert (page.outcome, page.title, page.markdown) == ("document", stored.title, stored.markdown)
        published = [(each.start, each.end, each.text) for each in chunks_of_document(version, ids[page.key])]
        assert [(each.start, each.end, each.text) for each in page.chunks] == published
    assert is_operators(drafting.db, done.kb)
