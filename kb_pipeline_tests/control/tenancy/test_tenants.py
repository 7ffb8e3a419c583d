"""The tenants of an installation: what is known of them and what follows for their KBs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.tenancy import tenants
from kb_pipeline.errors import TenantExists, TenantInactive, UnknownTenant
from kb_pipeline_tests.control.planes import ACME, apply


def test_a_tenant_prints_its_fields_in_order(db: Database) -> None:
    apply(db, ACME)
    tenant = tenants.get_tenant(db, "acme")
    assert list(tenant.as_json().items()) == [
        ("tenant", "acme"),
        ("plan", "default"),
        ("status", "active"),
        ("reason", ""),
        ("kbs", 1),
        ("created_at", tenant.created_at.isoformat()),
        ("delete_at", None),
    ]


def test_each_tenant_is_listed_with_the_number_of_its_own_kbs(db: Database) -> None:
    apply(db, ACME)
    tenants.create_tenant(db, "globex", "default", "tester")
    assert [(each.tenant, each.kbs) for each in tenants.list_tenants(db)] == [("acme", 1), ("globex", 0)]
    with pytest.raises(TenantExists):
        tenants.create_tenant(db, "globex", "default", "tester")


def test_only_an_active_tenants_kbs_may_be_used(db: Database) -> None:
    tenants.create_tenant(db, "acme", "default", "tester")
    tenants.require_active(db, "acme")
    suspended = tenants.set_status(db, "acme", "suspended", "unpaid", "tester")
    assert (suspended.status, suspended.reason) == ("suspended", "unpaid")
    with pytest.raises(TenantInactive, match="unpaid"):
        tenants.require_active(db, "acme")
    with pytest.raises(UnknownTenant):
        tenants.require_active(db, "globex")


def test_a_deletion_says_when_and_is_taken_back_until_then(db: Database) -> None:
    tenants.create_tenant(db, "acme", "default", "tester")
    leaving = tenants.schedule_deletion(db, "acme", timedelta(days=7), "tester")
    assert leaving.delete_at is not None
    assert leaving.as_json()["delete_at"] == leaving.delete_at.isoformat()
    assert tenants.set_status(db, "acme", "active", "", "tester").delete_at is None
