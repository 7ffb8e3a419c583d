"""Removing tenants and KBs from the control plane and the data, on both databases, whoever writes or dies meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.coordination.leases import acquire_lease, release_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import HostClient, Kb, Lease, RetiredKey, Tenant
from kb_pipeline.control.kbs import catalog, versions
from kb_pipeline.control.metering import daily_quotas
from kb_pipeline.control.metering.ledger import PageLedger
from kb_pipeline.control.metering.report import list_usage
from kb_pipeline.control.tenancy import tenants
from kb_pipeline.errors import (
    KeyRetired,
    LeaseLost,
    RemovalBegun,
    TenantInactive,
    UnknownKb,
    UnknownTenant,
    UsageError,
)
from kb_pipeline.model import KbKey, PagesUsed
from kb_pipeline.operations import delete as operations_delete
from kb_pipeline.operations.delete import DeletionTarget, delete_kb, delete_tenant, remove_due
from kb_pipeline.operations.deletion_receipt import DeletionReceipt
from kb_pipeline.operations.refresh import open_refresh_run
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline_tests.control.db.test_isolation import MODELS, row
from kb_pipeline_tests.control.planes import apply, publish
from kb_pipeline_tests.operations.home import Home, quick_refreshes
from kb_pipeline_tests.site import Site, serve_site

DOCS, WIKI, THEIRS = KbKey("acme", "docs"), KbKey("acme", "wiki"), KbKey("globex", "docs")
CANARY = "zanzibarite"


class NoHistory:
    """Of a home on which Dagster never ran."""

    def stop(self, target: DeletionTarget, wait_s: float) -> None:
        pass

    def run_ids(self, target: DeletionTarget) -> list[str]:
        return []

    def count(self, target: DeletionTarget) -> dict[str, int]:
        return {}

    def remove(self, target: DeletionTarget) -> None:
        pass


@pytest.fixture
def settings(db: Database, tmp_path: Path) -> Settings:
    """Of a home with a few files."""
    settings = Settings(tmp_path, "", tmp_path / "data", "", (), "text", actor="tester")
    for key in (DOCS, WIKI, THEIRS):
        for name in ("raw/a.parquet", "journal/site/b", "quarantine/c"):
            path = settings.data_dir / str(key) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{key}: {CANARY}")
    settings.logs_dir.mkdir()
    return settings


def fill(db: Database) -> None:
    """Two tenants with a row of everything, and three KBs."""
    with db.write_all() as session:
        session.add_all([row(model, tenant) for model in MODELS for tenant in ("acme", "globex")])
        for name in ("acme", "globex"):
            session.add(HostClient(host="site.example", client_id=f"run-{name} site", tenant=name))
        for tenant in session.scalars(select(Tenant)):
            tenant.status = "active"
        for lease in session.scalars(select(Lease)):
            lease.expires_at = 0.0
    for key in (DOCS, WIKI, THEIRS):
        apply(db, key)


def make_due(db: Database, tenant: str = "acme") -> None:
    tenants.schedule_deletion(db, tenant, timedelta(0), "tester")


def rows_of(db: Database, tenant: str) -> dict[str, int]:
    with db.read_all() as session:
        return {
            model.__tablename__: len(session.scalars(select(model).where(model.tenant == tenant)).all())
            for model in (*MODELS, HostClient)
        }


def test_everything_of_a_tenant_goes_and_everything_of_others_stays(db: Database, settings: Settings) -> None:
    fill(db)
    theirs = rows_of(db, "globex")
    make_due(db)
    receipt = delete_tenant(settings, db, NoHistory(), "acme")
    assert receipt.status == "removed"
    assert {check.found for check in receipt.checks or ()} == {0}
    places = {place.place: place.removed for place in receipt.places or ()}
    assert places["data/acme"] == 6
    assert {f"table {model.__tablename__}" for model in MODELS} <= set(places)
    assert set(rows_of(db, "acme").values()) == {0}
    assert rows_of(db, "globex") == theirs
    assert [path.name for path in settings.data_dir.iterdir()] == ["globex"]
    with db.read_all() as session:
        assert set(session.scalars(select(RetiredKey.key))) == {"acme", "acme/docs", "acme/wiki", "acme/x"}
    assert delete_tenant(settings, db, NoHistory(), "acme") == receipt
    with pytest.raises(UnknownTenant):
        delete_tenant(settings, db, NoHistory(), "initech")


def test_a_tenant_that_is_not_due_is_not_removed(db: Database, settings: Settings) -> None:
    apply(db, DOCS)
    with pytest.raises(UsageError, match="not due"):
        delete_tenant(settings, db, NoHistory(), "acme")
    tenants.schedule_deletion(db, "acme", timedelta(days=7), "tester")
    with pytest.raises(UsageError, match="not due"):
        delete_tenant(settings, db, NoHistory(), "acme")
    assert remove_due(settings, db, NoHistory()) == []
    for refused in (lambda: versions.manifest_as_of(db, DOCS, None), lambda: apply(db, DOCS)):
        publish(db, DOCS, f"run-{time.time_ns()}")
        with pytest.raises(TenantInactive):
            refused()
    tenants.set_status(db, "acme", "active", "", "tester")
    assert apply(db, DOCS) == "unchanged"
    with db.write_all() as session:
        session.get_one(Tenant, "acme").delete_at = datetime.now(UTC) - timedelta(days=1)
    assert remove_due(settings, db, NoHistory()) == [], "resumed"


def test_the_night_removes_what_is_due_and_what_a_late_writer_left(db: Database, settings: Settings) -> None:
    apply(db, DOCS)
    apply(db, THEIRS)
    make_due(db)
    assert [receipt.key for receipt in remove_due(settings, db, NoHistory())] == ["acme"]
    assert remove_due(settings, db, NoHistory()) == []
    late = settings.data_dir / "acme/docs/lance/chunks.lance/data"
    late.parent.mkdir(parents=True)
    late.write_text(CANARY)
    (receipt,) = remove_due(settings, db, NoHistory())
    assert (receipt.key, receipt.earlier[0].key) == ("acme", "acme")
    assert not (settings.data_dir / "acme").exists()


def test_one_kb_goes_and_the_tenants_others_stay(db: Database, settings: Settings) -> None:
    fill(db)
    receipt = delete_kb(settings, db, NoHistory(), DOCS)
    assert receipt.status == "removed"
    assert delete_kb(settings, db, NoHistory(), DOCS) == receipt
    assert [path.name for path in (settings.data_dir / "acme").iterdir()] == ["wiki"]
    assert [record.key for record in catalog.list_kbs(db)][:2] == [WIKI, KbKey("acme", "x")]
    with pytest.raises(UnknownKb):
        delete_kb(settings, db, NoHistory(), KbKey("acme", "none"))


def test_what_a_deleted_kb_has_used_stays_its_tenants(db: Database, settings: Settings) -> None:
    for key in (DOCS, WIKI, THEIRS):
        apply(db, key)
        lease = acquire_lease(db, key, "run")
        ledger = PageLedger(db, lease)
        with db.read(key.tenant) as session:
            today = daily_quotas.today(session)
        ledger.count("fetch-1", {"2026-01-01": PagesUsed(10, 1000), today: PagesUsed(30, 3000)})
        release_lease(db, lease)
    before = list(list_usage(db, by="day"))
    delete_kb(settings, db, NoHistory(), DOCS)
    delete_kb(settings, db, NoHistory(), WIKI)
    assert list(list_usage(db, by="day")) == before
    assert {row.kb: row.pages for row in list_usage(db, "acme", by="kb")} == {"(deleted)": 80}
    with db.read("acme") as session:
        assert daily_quotas.taken_today(session, daily_quotas.PAGES) == 60
    make_due(db)
    delete_tenant(settings, db, NoHistory(), "acme")
    assert {row.tenant for row in list_usage(db)} == {"globex"}


def test_a_retired_key_is_taken_knowingly_only_and_nothing_comes_back_with_it(db: Database, settings: Settings) -> None:
    apply(db, DOCS)
    publish(db, DOCS, "run-1")
    delete_kb(settings, db, NoHistory(), DOCS)
    make_due(db)
    delete_tenant(settings, db, NoHistory(), "acme")
    with pytest.raises(KeyRetired):
        tenants.create_tenant(db, "acme", "default", "tester")
    with pytest.raises(KeyRetired):
        apply(db, DOCS)
    tenants.create_tenant(db, "acme", "default", "tester", reuse=True)
    with pytest.raises(KeyRetired, match="acme/docs"):
        apply(db, DOCS)
    reuse(db, DOCS)
    assert list(versions.list_versions(db, DOCS)) == []
    assert apply(db, DOCS, delay_s=5) == "updated", "its owner need not say so again"
    assert publish(db, DOCS, "run-2") == 1


def reuse(db: Database, key: KbKey) -> None:
    yaml = f"tenant: {key.tenant}\nkb: {key.kb}\nsources: [{{name: s, type: web, start_urls: ['http://x.example/']}}]\n"
    assert catalog.apply_spec(db, parse_spec(yaml, "test"), yaml, "tester", reuse=True) == "created"


@pytest.mark.parametrize("times", [1, 2])
def test_a_writer_of_the_former_kb_publishes_nothing_to_the_one_that_took_its_key(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(operations_delete, "WAIT_S", 0.0)
    apply(db, DOCS)
    zombie = leases.acquire_lease(db, DOCS, "zombie")
    number = versions.reserve_version(db, zombie, "zombie")
    for _ in range(times):
        delete_kb(settings, db, NoHistory(), DOCS)
        with pytest.raises(LeaseLost):
            leases.check_lease(db, zombie)
        reuse(db, DOCS)
    for owner in ("heir", "zombie"):  # also when the very run that was fenced off comes back for its next step
        heir = leases.acquire_lease(db, DOCS, owner)
        assert heir.token > zombie.token
        assert versions.reserve_version(db, heir, owner) >= number
        with pytest.raises(LeaseLost):
            versions.publish_version(db, zombie, number)
        with pytest.raises(LeaseLost):
            leases.check_lease(db, zombie)
        leases.release_lease(db, heir)


def test_what_is_half_removed_is_neither_resumed_nor_made_anew(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(NoHistory):
        def remove(self, target: DeletionTarget) -> None:
            raise OSError("disk on fire")

    apply(db, DOCS)
    apply(db, THEIRS)
    make_due(db)
    with pytest.raises(OSError, match="on fire"):
        delete_tenant(settings, db, Broken(), "acme")
    with pytest.raises(OSError, match="on fire"):
        delete_kb(settings, db, Broken(), THEIRS)
    assert remove_due(settings, db, Broken()) == []
    attempts: list[Callable[[], object]] = [
        lambda: tenants.set_status(db, "acme", "active", "", "tester"),
        lambda: tenants.schedule_deletion(db, "acme", timedelta(1), "tester"),
        lambda: reuse(db, THEIRS),
    ]
    for refused in attempts:
        with pytest.raises(RemovalBegun, match="cannot be taken back"):
            refused()
    with pytest.raises(UnknownKb), open_refresh_run(settings, db, THEIRS, "run"):
        pass
    assert [receipt.key for receipt in remove_due(settings, db, NoHistory())] == ["acme", "globex/docs"]


_REMOVE = """
import sys
from pathlib import Path
from kb_pipeline.control.db.engine import Database
from kb_pipeline.operations.delete import delete_kb, delete_tenant
from kb_pipeline.model import KbKey
from kb_pipeline.settings import Settings
from kb_pipeline_tests.operations.test_delete import NoHistory
home, what = Path(sys.argv[1]), sys.argv[3]
settings = Settings(home, "", home / "data", "", (), "text", actor="tester")
remove = delete_kb if "/" in what else delete_tenant
remove(settings, Database(sys.argv[2]), NoHistory(), KbKey.parse(what) if "/" in what else what)
"""
STEPS = ("remove.begun", "remove.history", "folder.leaving", "remove.files", "remove.finished")


@pytest.mark.parametrize("step", STEPS)
def test_a_removal_that_is_killed_goes_on_with_the_next_call(db: Database, settings: Settings, step: str) -> None:
    fill(db)
    make_due(db)
    command = [sys.executable, "-c", _REMOVE, str(settings.home), db.url.render_as_string(hide_password=False), "acme"]
    killed = subprocess.run(command, env=os.environ | {"KB_FAILPOINT": step}, check=False)
    assert killed.returncode == -signal.SIGKILL
    with db.write_all() as session:  # as if a minute had passed
        for lease in session.scalars(select(Lease).where(Lease.tenant == "acme")):
            lease.expires_at = 0.0
    receipt = delete_tenant(settings, db, NoHistory(), "acme")
    assert receipt.status == "removed"
    assert {place.place: place.removed for place in receipt.places or ()}["data/acme"] == 6
    assert set(rows_of(db, "acme").values()) == {0}
    assert [path.name for path in settings.data_dir.iterdir()] == ["globex"]


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    with quick_refreshes():
        yield


@pytest.fixture
def two(tmp_path: Path, models_dir: Path, site: Site, quick: None) -> Home:
    """Two tenants with a published KB each, one of which has another KB with partly the same text."""
    home = Home(tmp_path / "two", models_dir)
    home.settings.logs_dir.mkdir()
    with serve_site() as secret:
        secret.pages |= site.pages
        secret.put("/", "Mine", f"The {CANARY} is a mineral that only we know how to find.")
        home.apply(secret, DOCS)
        for key in (WIKI, THEIRS):
            home.apply(site, key)
        for key in (DOCS, WIKI, THEIRS):
            assert home.refresh(key).status == "ready"
    return home


def words_in(folder: Path, word: str) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and "models" not in path.parts)
    return [str(path.relative_to(folder)) for path in files if word.encode() in path.read_bytes()]


def texts_cached(home: Home, key: KbKey) -> int:
    vectors = home.store(key).vectors
    return sum(vectors.open(name).count() for name in vectors.names("model_"))


def test_the_cache_loses_what_only_the_deleted_kb_had(two: Home) -> None:
    kept = texts_cached(two, THEIRS)
    assert texts_cached(two, DOCS) > kept
    assert words_in(two.settings.home, CANARY)
    receipt = delete_kb(two.settings, two.db, NoHistory(), DOCS)
    assert {check.found for check in receipt.checks or ()} == {0}
    assert words_in(two.settings.home, CANARY) == []
    assert texts_cached(two, WIKI) == kept, "the other KB has the same texts as the other tenant's"
    for key in (WIKI, THEIRS):
        assert two.refresh(key).status == "unchanged"


def test_a_tenant_is_deleted_while_it_and_another_one_refresh(
    two: Home, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations_delete, "WAIT_S", 0.2)
    site.put("/plums", "Plums", "Plums are distilled into a clear brandy that is called slivovitz.")
    receipts: list[DeletionReceipt] = []

    def delete() -> None:
        make_due(two.db)
        receipts.append(delete_tenant(two.settings, two.db, NoHistory(), "acme"))

    def refresh_and_be_deleted() -> None:
        with two.begun(WIKI) as mine:
            deleting = threading.Thread(target=delete)
            deleting.start()
            deleting.join()
            mine.build_candidate()

    with two.begun(THEIRS) as theirs:
        with pytest.raises((UnknownKb, LeaseLost)):
            refresh_and_be_deleted()
        theirs.build_candidate()
        theirs.publish()
    assert receipts[0].status == "removed"
    assert two.last(THEIRS).status == "ready"
    assert words_in(two.settings.home, CANARY) == []
    with two.db.read_all() as session:
        assert set(session.scalars(select(Kb.tenant))) == {"globex"}
