"""Plans are files: what they say is checked, kept, told and asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.tenancy import audit
from kb_pipeline.control.tenancy.plans import PlanLimits, apply_plans, get_plan, limits_of, list_plans
from kb_pipeline.control.tenancy.tenants import create_tenant, get_tenant, set_plan
from kb_pipeline.errors import InvalidSpec, UnknownPlan, UnknownTenant
from kb_pipeline.spec.plan_file import PlanSpec, load_plan

GOLD = """
plan: gold
limits:
  concurrent_runs: 3
  pages_per_day: 1000
  storage: 20 GB
  priority: 5
  models: [all-MiniLM-L6-v2]
  shortest_interval: 1h
  requests_per_minute: 600
prices: {all-MiniLM-L6-v2: 0.02}
"""


def plan_of(folder: Path, text: str) -> PlanSpec:
    (folder / "plan.yaml").write_text(text)
    return load_plan(folder / "plan.yaml")


def test_a_plan_is_what_its_file_says_and_nothing_else_is_limited(db: Database, tmp_path: Path) -> None:
    gold = plan_of(tmp_path, GOLD)
    assert apply_plans(db, [gold], "tester") == [("gold", "created")]
    assert apply_plans(db, [gold], "tester") == [("gold", "unchanged")]
    create_tenant(db, "acme", "gold", "tester")
    assert limits_of(db, "acme") == PlanLimits(
        "gold", concurrent_runs=3, pages_per_day=1000, storage=20_000_000_000, priority=5,
        models=("all-MiniLM-L6-v2",), shortest_interval_s=3600.0, requests_per_minute=600,
        prices={"all-MiniLM-L6-v2": 0.02},
    )  # fmt: skip
    assert [(plan.plan, plan.tenants) for plan in list_plans(db)] == [("default", 0), ("gold", 1)]


def test_the_default_plan_is_unlimited_until_a_file_says_otherwise(db: Database, tmp_path: Path) -> None:
    create_tenant(db, "acme", "default", "tester")
    assert limits_of(db, "acme") == PlanLimits()
    apply_plans(db, [plan_of(tmp_path, "{plan: default, limits: {documents: 10}}")], "tester")
    assert limits_of(db, "acme") == PlanLimits(documents=10)


def test_a_plan_that_does_not_exist_is_given_to_nobody(db: Database) -> None:
    create_tenant(db, "acme", "default", "tester")
    with pytest.raises(UnknownPlan, match="kb plan apply"):
        set_plan(db, "acme", "platinum", "tester")
    with pytest.raises(UnknownPlan):
        create_tenant(db, "globex", "platinum", "tester")
    with pytest.raises(UnknownPlan):
        get_plan(db, "platinum")
    assert get_tenant(db, "acme").plan == "default"
    with pytest.raises(UnknownTenant):
        limits_of(db, "globex")


def test_a_plan_that_changes_is_in_the_audit_log(db: Database, tmp_path: Path) -> None:
    for pages in (1, 2):
        apply_plans(db, [plan_of(tmp_path, f"{{plan: gold, limits: {{pages_per_day: {pages}}}}}")], "tester")
    first, second = audit.list_entries(db, audit.INSTALLATION)
    assert (first.action, first.subject, first.before) == ("plan.apply", "gold", None)
    assert second.before is not None
    assert second.after is not None
    assert second.before["limits"] == {"pages_per_day": 1}
    assert second.after["limits"] == {"pages_per_day": 2}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "plan: gold\nlimits: {page_per_day: 1}",
            "limits.page_per_day: got an unknown field; did you mean pages_per_day? allowed here: concurrent",
        ),
        ("plan: gold\nlimits: {storage: 20 parsec}", "limits.storage: got '20 parsec'; allowed is a number of bytes"),
        ("plan: gold\nlimits: {pages_per_day: -1}", "limits.pages_per_day"),
        ("plan: gold\nlimits: {source_types: [ftp]}", "limits.source_types"),
        ("plan: ../gold", "plan: got '../gold'"),
        ("plan: gold\nprices: {x: .inf}", "prices.x"),
        ("[]", "a plan file is a mapping with plan, limits"),
    ],
)
def test_a_file_with_a_mistake_is_refused_and_says_where(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        plan_of(tmp_path, text)
    assert told in str(refused.value)
    assert "not a valid plan file, nothing was applied" in str(refused.value)


@pytest.mark.parametrize(
    ("written", "read"), [("1 GB", 10**9), ("1.5GiB", 3 << 29), ("10 kB", 10_000), ("5", None), ("7B", 7), (12, 12)]
)
def test_sizes_have_units(tmp_path: Path, written: object, read: int | None) -> None:
    text = f"{{plan: gold, limits: {{storage: {written!r}}}}}"
    if read is None:
        with pytest.raises(InvalidSpec):
            plan_of(tmp_path, text)
    else:
        assert plan_of(tmp_path, text).limits.storage == read


def test_a_plan_prints_its_fields_in_order(db: Database, tmp_path: Path) -> None:
    (default,) = list_plans(db)
    assert list(default.as_json().items()) == [
        ("plan", "default"),
        ("tenants", 0),
        ("limits", {}),
        ("prices", {}),
        ("updated_at", None),
    ]
    apply_plans(db, [plan_of(tmp_path, "{plan: gold, limits: {documents: 10}}")], "tester")
    gold = get_plan(db, "gold")
    assert gold.updated_at is not None
    assert (gold.limits, gold.as_json()["updated_at"]) == ({"documents": 10}, gold.updated_at.isoformat())
