"""Lists what a tenant has left of each limit of its plan, disk space included."""

from __future__ import annotations

from collections.abc import Iterator

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.metering import limits
from kb_pipeline.control.tenancy.tenants import get_tenant
from kb_pipeline.settings import Settings
from kb_pipeline.store.durable_files import folder_bytes
from kb_pipeline.store.paths import tenant_folder


def list_quotas(settings: Settings, db: Database, tenant: str) -> Iterator[limits.QuotaRecord]:
    """Yield each limit of a tenant that is a number, with what is used of it; raises UnknownTenant."""
    get_tenant(db, tenant)  # before a folder of that name is looked at
    return limits.list_quotas(db, tenant, folder_bytes(tenant_folder(settings.data_dir, tenant)))
