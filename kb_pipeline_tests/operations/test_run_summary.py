"""What a run shows of itself: warnings by the reports of its stages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from kb_pipeline.account import Account, Category, ReasonCount, SourceAccount
from kb_pipeline.control.coordination.leases import acquire_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.runs.refreshes import begin_refresh, finish_stage
from kb_pipeline.model import KbKey, StageReport
from kb_pipeline.operations.run_context import RunContext
from kb_pipeline.operations.run_summary import RunSummary, language_warnings
from kb_pipeline.settings import Settings
from kb_pipeline_tests.control.planes import apply

DOCS = KbKey("acme", "docs")


@pytest.fixture
def context(db: Database, tmp_path: Path) -> RunContext:
    """A run that has begun."""
    settings = Settings(tmp_path, "", tmp_path / "data", "", (), "text", actor="tester")
    apply(db, DOCS)
    lease = acquire_lease(db, DOCS, "run-1")
    begin_refresh(db, DOCS, "run-1")
    return RunContext(settings, db, lease, "run-1", get_kb(db, DOCS).read_spec(settings))


def report(context: RunContext, stage: StageReport) -> list[str]:
    finish_stage(context.db, context.key, context.run_id, stage, f"run-1/{stage.stage}")
    return RunSummary(context).warnings()


def test_a_run_without_problems_warns_of_nothing(context: RunContext) -> None:
    assert report(context, StageReport("fetch", entered=3, passed=3)) == []


def test_failures_are_counted_with_their_three_most_common_reasons(context: RunContext) -> None:
    failed = Counter({"timeout": 5, "server-error": 3, "dns": 2, "tls": 1})
    (warning,) = report(context, StageReport("fetch", entered=11, failed=failed))
    assert warning == "11 pages failed (timeout 5, server-error 3, dns 2); see: kb failures acme/docs"


def test_pages_that_a_quota_left_out_did_not_fail(context: RunContext) -> None:
    (warning,) = report(context, StageReport("fetch", entered=4, failed=Counter(quota=4)))
    assert warning.startswith("4 pages were not asked for: ")


def test_a_repair_is_told_once_however_many_stages_report_it(context: RunContext) -> None:
    report(context, StageReport("clean", extra={"repaired": ["documents"]}))
    warnings = report(context, StageReport("chunk", extra={"repaired": ["documents"]}))
    assert warnings == ["damaged data was set aside and made again: documents"]


def test_a_source_whose_pages_lose_much_of_their_text_is_named_with_its_worst_page(context: RunContext) -> None:
    lossy = [{"source": "news", "pages": 12, "key": "https://news.test/vote"}]
    (warning,) = report(context, StageReport("clean", extra={"lossy_pages": lossy}))
    assert "30% of the text of 12 pages of news" in warning
    assert warning.endswith("kb page acme/docs https://news.test/vote --json")


def accounted(*counts: tuple[str, Category, int], known: int = 100, **fields: int) -> StageReport:
    """Return the report of a cleaning with an account of one source."""
    reasons = tuple(ReasonCount("fetch", reason, category, keys) for reason, category, keys in counts)
    documents = known - sum(each.keys for each in reasons)
    account = Account((SourceAccount("site", known, documents, 0, 0, reasons),), **fields)
    return StageReport("clean", extra={"account": account.as_json()})


def test_each_limit_that_leaves_pages_out_is_a_line_with_its_remedy(context: RunContext) -> None:
    warnings = report(context, accounted(("max_pages", "limits", 1), ("too_deep", "limits", 21), ("robots", "site", 5)))
    assert warnings == [
        "21 pages and what lies behind them are left out (too_deep): raise max_depth; "
        "see: kb documents acme/docs --left-out --reason too_deep",
        "1 page and what lies behind it are left out (max_pages): raise max_pages; "
        "see: kb documents acme/docs --left-out --reason max_pages",
    ]


def test_what_is_left_out_by_somebodys_will_is_no_warning(context: RunContext) -> None:
    will = accounted(("excluded", "file", 9), ("not_found", "site", 9), ("erased", "request", 1))
    assert report(context, will) == []


def test_documents_that_a_lowered_limit_takes_are_counted(context: RunContext) -> None:
    lowered = accounted(("too_deep", "limits", 21))
    lowered.extra["ended"] = {"too_deep": 12, "not_found": 1}
    (warning,) = report(context, lowered)
    assert warning.startswith(
        "21 pages and what lies behind them are left out (too_deep), 12 of which the live version has: raise "
    )


def test_what_was_met_and_not_recorded_is_a_lower_bound(context: RunContext) -> None:
    not_recorded, cut = report(context, accounted(not_recorded=40, cut_listings=1))
    assert not_recorded == "at least 40 more pages were met and not recorded: raise max_pages"
    assert cut.startswith("a page or sitemap was not read to the end, so there may be more pages")


def test_sitemaps_that_cannot_be_read_are_told_with_their_reasons(context: RunContext) -> None:
    problems = [{"outcome": "failed", "reason": "http_500"}, {"outcome": "rejected", "reason": "sitemap_invalid"}]
    report(context, StageReport("fetch", extra={"problems": problems}))
    (warning,) = report(context, accounted())
    assert warning.startswith("sitemaps, feeds or folders could not be read (http_500 1, sitemap_invalid 1); see: kb f")


@pytest.mark.parametrize(
    ("known", "host", "urls", "is_sibling", "remedy"),
    [
        (1, "localhost:8000", 60, False, "name it in start_urls"),
        (40, "www.example.org", 400, True, "set scope: domain, or start there"),
        (40, "www.example.org", 40, True, None),
        (40, "github.com", 400, False, None),
        (1, "", 400, False, None),
    ],
    ids=["a door to another host", "a sibling", "a part at a sibling", "many links to others", "many others"],
)
def test_a_host_to_which_nearly_all_links_lead_is_named_with_the_key_to_add(
    context: RunContext, known: int, host: str, urls: int, is_sibling: bool, remedy: str | None
) -> None:
    hosts = [(host, urls, is_sibling), ("a.net", 2, False)]
    rows = [{"source": "site", "host": name, "urls": count, "is_sibling": near} for name, count, near in hosts]
    report(context, StageReport("fetch", extra={"outside_hosts": rows}))
    warnings = report(context, accounted(known=known))
    assert warnings == (
        [f"{urls} of {known + urls + 2} addresses lie at {host}, which the scope leaves out: {remedy}"]
        if remedy
        else []
    )


def test_what_came_back_is_a_note_and_no_warning(context: RunContext) -> None:
    assert report(context, StageReport("fetch", extra={"came_back": {"too_deep": 3, "not_found": 1}})) == []
    assert RunSummary(context).notes() == [
        "3 pages that had been left out (too_deep) came back",
        "1 page that had been left out (not_found) came back",
    ]


def test_languages_that_the_model_does_not_know_are_named_without_undetermined_ones() -> None:
    (warning,) = language_warnings("all-MiniLM-L6-v2", ["en", "und", "de", "fr"])
    assert "does not know de, fr:" in warning
    assert language_warnings("multilingual-e5-small", ["en", "de"]) == []
