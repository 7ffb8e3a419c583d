"""A tenant's plan is asked before the work: what would go beyond it is refused, or snoozed until it renews."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.control.coordination.leases import acquire_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Bucket, Lease, Usage
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.metering import daily_quotas, limits
from kb_pipeline.control.metering.ledger import PageLedger, TokenLedger
from kb_pipeline.control.metering.report import list_usage
from kb_pipeline.control.tenancy.plans import apply_plans
from kb_pipeline.control.tenancy.tenants import create_tenant
from kb_pipeline.errors import InvalidKey, LeaseLost, QuotaExceeded, UsageError
from kb_pipeline.model import EmbeddingModel, KbKey, PagesUsed
from kb_pipeline.operations.refresh import open_refresh_run
from kb_pipeline.spec.plan_file import PlanSpec
from kb_pipeline_tests.operations.home import KEY, MODEL, Home, quick_refreshes
from kb_pipeline_tests.site import Site

DOCS, WIKI, THEIRS = KbKey("acme", "docs"), KbKey("acme", "wiki"), KbKey("globex", "docs")
NEVER = EmbeddingModel("none", "0" * 32, 4)


def limit(db: Database, **limits: Any) -> None:
    """Everybody has the plan `default`."""
    spec = {"plan": "default", "limits": limits, "prices": {MODEL: 0.5, "none": 2.0}}
    apply_plans(db, [PlanSpec.model_validate(spec)], "tester")


@pytest.fixture
def tenants(db: Database) -> Database:
    for name in ("acme", "globex"):
        create_tenant(db, name, "default", "tester")
    return db


def take(db: Database, key: KbKey, wanted: int, limit: int) -> int:
    with db.write(key.tenant) as session:
        return daily_quotas.take(session, key, daily_quotas.PAGES, wanted, limit)


def pages(db: Database, key: KbKey, run: str = "run") -> PageLedger:
    return PageLedger(db, acquire_lease(db, key, run))


def today(db: Database) -> str:
    with db.read("acme") as session:
        return daily_quotas.today(session)


def test_a_bucket_is_the_tenants_and_renews_with_the_day(tenants: Database) -> None:
    assert [take(tenants, key, 60, 100) for key in (DOCS, WIKI, DOCS, THEIRS)] == [60, 40, 0, 60]
    with tenants.write("acme") as session:
        for row in session.query(Bucket):
            row.day = "2026-01-01"
    assert take(tenants, WIKI, 60, 100) == 60


def test_many_who_take_at_once_never_get_more_than_there_is(tenants: Database) -> None:
    got: list[int] = []

    def run(number: int) -> None:
        for _ in range(5):
            got.append(take(tenants, KbKey("acme", f"kb{number}"), 7, 100))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 100


def test_what_a_crawl_took_and_did_not_use_goes_back(tenants: Database) -> None:
    limit(tenants, pages_per_day=150)
    ledger = pages(tenants, DOCS)
    assert (ledger.take(100), ledger.take(100), ledger.take(100)) == (100, 50, 0)
    for _ in range(2):  # said twice, it counts once
        ledger.count("fetch-1", {today(tenants): PagesUsed(30, 3000)})
    assert ledger.take(200) == 120
    ledger.count("fetch-1", {today(tenants): PagesUsed(40, 4000), "2026-01-01": PagesUsed(5, 500)})
    assert ledger.take(200) == 110
    assert [(row.day, row.pages, row.bytes) for row in list_usage(tenants, "acme", by="day")] == [
        ("2026-01-01", 5, 500),
        (today(tenants), 40, 4000),
    ]


def test_a_writer_that_was_replaced_counts_nothing(tenants: Database) -> None:
    old = pages(tenants, DOCS, "old")
    with tenants.write("acme") as session:
        session.get_one(Lease, ("acme", "docs")).expires_at = 0.0
    pages(tenants, DOCS, "new").count("fetch-1", {today(tenants): PagesUsed(9, 9)})
    with pytest.raises(LeaseLost):
        old.count("fetch-1", {today(tenants): PagesUsed(3, 3)})
    assert [row.pages for row in list_usage(tenants, "acme")] == [9]


def test_usage_of_what_no_kb_can_be_called_is_refused(db: Database) -> None:
    for name in ("", "docs\0", "Docs"):  # what Postgres would not even take
        with pytest.raises(InvalidKey):
            list(list_usage(db, kb=name))


def test_a_batch_that_the_tokens_do_not_reach_for_is_cut(tenants: Database) -> None:
    limit(tenants, embedding_tokens_per_day=100)
    ledger = TokenLedger(tenants, acquire_lease(tenants, DOCS, "run"), NEVER)
    assert ledger.begin("one", ["a", "b", "c"], [40, 40, 40]) == 2
    assert list(list_usage(tenants, "acme")) == []  # an intent counts for nothing
    ledger.done("one")
    ledger.done("one")
    with pytest.raises(QuotaExceeded, match="embedding_tokens_per_day is 80, allowed is 100; it renews at") as told:
        ledger.begin("two", ["c"], [40])
    assert told.value.renews_at is not None
    assert told.value.renews_at > datetime.now(UTC)
    (row,) = list_usage(tenants, "acme")
    assert (row.operation, row.model, row.tokens, row.cost) == ("embed", "none", 80, 0.00016)


def test_usage_is_summed_up_by_what_one_asks_for(tenants: Database) -> None:
    for key, day, count in ((DOCS, "2026-01-01", 1), (WIKI, "2026-01-01", 2), (WIKI, "2026-01-02", 4)):
        pages(tenants, key).count(f"fetch-{day}", {day: PagesUsed(count, 10 * count)})
    pages(tenants, THEIRS).count("fetch-1", {"2026-01-01": PagesUsed(8, 80)})

    def sums(*arguments: Any, **wanted: Any) -> list[tuple[Any, ...]]:
        return [tuple(row.as_json().values())[:3] for row in list_usage(tenants, *arguments, **wanted)]

    assert sums("acme", by="kb") == [("acme", "docs", 1), ("acme", "wiki", 6)]
    assert sums("acme", by="day", kb="wiki") == [("acme", "2026-01-01", 2), ("acme", "2026-01-02", 4)]
    assert sums(by="operation") == [("acme", "fetch", 7), ("globex", "fetch", 8)]
    assert sums(by="day", since="2026-01-02") == [("acme", "2026-01-02", 4)]
    assert sums("acme", by="day", until="2026-01-01") == [("acme", "2026-01-01", 3)]
    assert len(list(list_usage(tenants))) == 4
    with pytest.raises(UsageError, match="is no day"):
        list(list_usage(tenants, since="yesterday"))


@pytest.fixture(scope="module", autouse=True)
def quickly() -> Iterator[None]:
    with quick_refreshes():
        yield


@pytest.fixture
def home(tmp_path: Path, models_dir: Path) -> Home:
    return Home(tmp_path / "home", models_dir)


def quota_of(home: Home, name: str) -> limits.QuotaRecord:
    return next(row for row in limits.list_quotas(home.db, "acme", 0) if row.limit == name)


def used(home: Home, operation: str, figure: str) -> Any:
    rows = {row.operation: row for row in list_usage(home.db, "acme", by="operation")}
    return getattr(rows[operation], figure) if operation in rows else 0


def next_day(home: Home) -> None:
    """As if what was used had been used yesterday."""
    with home.db.write_all() as session:
        for row in (*session.query(Bucket), *session.query(Usage)):
            row.day = "2026-01-01"


def test_a_fetch_that_comes_to_its_quota_publishes_what_it_has_and_goes_on_the_next_day(home: Home, site: Site) -> None:
    home.apply(site)
    limit(home.db, pages_per_day=3)
    first = home.refresh()
    assert first.ended == ("ready_with_warnings", 1)
    assert "2 pages were not asked for: tenant acme, plan default: pages_per_day is 3, allowed is 3" in first.message
    assert len(home.keys()) == 3
    assert sum(site.asked[path] for path in site.pages) == 3
    assert (quota_of(home, "pages_per_day").used, quota_of(home, "pages_per_day").left) == (3, 0)

    second = home.refresh()
    assert second.status == "snoozed"
    assert "it renews at" in second.message
    assert len(home.keys()) == 3
    snoozed = get_kb(home.db, KEY).snoozed_until
    assert snoozed is not None
    assert timedelta() < snoozed - datetime.now(UTC) <= timedelta(days=1)

    next_day(home)
    assert home.refresh().status == "ready_with_warnings"
    # Those left out came first, and nothing that was not asked for counts as gone.
    assert home.keys() == ["/", "/apples", "/pears", "/plums", "/quinces"]
    assert get_kb(home.db, KEY).snoozed_until is None
    assert used(home, "fetch", "pages") == 6


def test_texts_beyond_the_quota_of_tokens_are_embedded_the_next_day(home: Home, site: Site) -> None:
    home.apply(site)
    limit(home.db, embedding_tokens_per_day=60)
    first = home.refresh()
    assert (first.status, used(home, "embed", "tokens") <= 60) == ("snoozed", True)
    assert used(home, "embed", "tokens") > 0
    for _ in range(10):
        next_day(home)
        last = home.refresh()
        if last.status != "snoozed":
            break
    assert last.ended == ("ready", 1)
    whole = int(home.store().tables.open("chunks").read_columns(["tokens"])["tokens"].sum())
    assert used(home, "embed", "tokens") == whole
    assert used(home, "embed", "cost") == pytest.approx(whole * 0.5 / 1_000_000, abs=1e-5)


@pytest.mark.parametrize("name", ["documents", "chunks"])
def test_a_version_with_too_much_is_refused_before_the_work(home: Home, site: Site, name: str) -> None:
    home.apply(site)
    limit(home.db, **{name: 4})
    refused = home.refresh()
    assert refused.status == "failed"
    assert f"{name} is 5, allowed is 4" in refused.message
    assert "kb tenant plan acme PLAN" in refused.message
    assert "embed" not in refused.stages
    assert get_kb(home.db, KEY).snoozed_until is None


def test_what_a_plan_does_not_allow_is_refused_at_the_start(home: Home, site: Site) -> None:
    home.apply(site, schedule={"cron": "*/10 * * * *"})
    assert home.refresh().status == "ready"
    for given, told in (
        ({"models": ["multilingual-e5-small"]}, f"models is '{MODEL}', allowed is multilingual-e5-small"),
        ({"source_types": []}, "source_types is 'web', allowed is none"),
        ({"shortest_interval": "1h"}, "shortest_interval is 0:10:00, allowed is 1:00:00"),
        ({"documents": 4}, "documents is 5, allowed is 4"),
        ({"chunks": 4}, "chunks is 5, allowed is 4"),
        ({"storage": "1 kB"}, "allowed is 1000 bytes"),
    ):
        limit(home.db, **given)
        before = site.asked.total()
        with pytest.raises(QuotaExceeded) as refused, open_refresh_run(home.settings, home.db, KEY, "run"):
            pass
        assert told in str(refused.value)
        assert (home.last().status, site.asked.total()) == ("failed", before)
    limit(home.db, shortest_interval="10m", documents=5, chunks=5, models=[MODEL], source_types=["web"])
    assert home.refresh().status == "unchanged"


def test_a_kb_that_outgrew_its_plan_may_be_made_smaller(home: Home, site: Site) -> None:
    home.apply(site)
    assert home.refresh().status == "ready"
    limit(home.db, documents=3)
    before = site.asked.total()
    assert (home.refresh().status, site.asked.total()) == ("failed", before)
    home.apply(site, source={"exclude": ["/plums"]})
    refused = home.refresh(force=True)
    assert "documents is 4, allowed is 3" in refused.message
    home.apply(site, source={"exclude": ["/plums", "/pears"]})
    assert home.refresh(force=True).ended[0] == "ready"
    assert home.live().counts.documents == 3


def test_a_file_that_its_plan_does_not_allow_is_not_applied(home: Home, site: Site) -> None:
    limit(home.db, shortest_interval="1h")
    with pytest.raises(QuotaExceeded, match="shortest_interval"):
        home.apply(site, schedule={"cron": "0,30 3 * * *"})
    home.apply(site, schedule={"cron": "0 3 * * *"})


def test_each_stage_that_ends_has_its_seconds(home: Home, site: Site) -> None:
    home.apply(site)
    home.refresh()
    seconds = {row.operation: row.seconds for row in list_usage(home.db, "acme", by="operation")}
    assert set(seconds) == {"fetch", "clean", "chunk", "embed", "index"}
    assert seconds["fetch"] == pytest.approx(home.last().stages["fetch"]["seconds"], abs=0.01)
    assert used(home, "fetch", "pages") == 5
    assert used(home, "fetch", "bytes") == sum(len(page) for page in site.pages.values())
