"""What a tenant has left, with the disk that its data takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.tenancy.plans import apply_plans
from kb_pipeline.control.tenancy.tenants import create_tenant
from kb_pipeline.errors import UnknownTenant
from kb_pipeline.operations.quotas import list_quotas
from kb_pipeline.settings import load_settings
from kb_pipeline.spec.plan_file import PlanSpec


@pytest.fixture
def db(home: Path) -> Database:
    """Return a home's control plane with a plan that limits disk and pages."""
    db = Database(load_settings().database_url)
    spec = {"plan": "default", "limits": {"storage": "1GB", "pages_per_day": 100}}
    apply_plans(db, [PlanSpec.model_validate(spec)], "tester")
    create_tenant(db, "acme", "default", "tester")
    return db


def test_disk_is_measured_below_the_tenants_own_folder(db: Database, home: Path) -> None:
    for tenant, size in (("acme", 1000), ("globex", 7)):
        folder = home / "data" / tenant / "docs" / "raw"
        folder.mkdir(parents=True)
        (folder / "segment").write_bytes(bytes(size))
    rows = {row.limit: row for row in list_quotas(load_settings(), db, "acme")}
    assert (rows["storage"].used, rows["storage"].allowed) == (1000, 1_000_000_000)
    assert rows["storage"].left == 999_999_000
    assert (rows["documents"].allowed, rows["documents"].left) == (None, None)


def test_a_quota_prints_its_fields_in_order(db: Database) -> None:
    rows = {row.limit: row for row in list_quotas(load_settings(), db, "acme")}
    assert list(rows) == [
        "pages_per_day", "embedding_tokens_per_day", "documents", "chunks", "storage", "concurrent_runs",
    ]  # fmt: skip
    daily, lasting = rows["pages_per_day"], rows["storage"]
    assert daily.renews_at is not None
    assert list(daily.as_json().items()) == [
        ("limit", "pages_per_day"),
        ("used", 0),
        ("allowed", 100),
        ("left", 100),
        ("renews_at", daily.renews_at.isoformat()),
    ]
    assert lasting.renews_at is None


@pytest.mark.parametrize("tenant", ["globex", "..", "../.."])
def test_no_folder_is_looked_at_for_a_tenant_that_there_is_not(db: Database, tenant: str) -> None:
    with pytest.raises(UnknownTenant):
        list_quotas(load_settings(), db, tenant)
