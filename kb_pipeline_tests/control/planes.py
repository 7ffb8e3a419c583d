"""What tests of the control plane do to one: apply a KB, publish a version of nothing, let a lease run out."""

from __future__ import annotations

import time

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Lease
from kb_pipeline.control.kbs import catalog, versions
from kb_pipeline.model import KbKey
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline_tests.store.manifests import manifest_of

ACME, GLOBEX = KbKey("acme", "docs"), KbKey("globex", "docs")


def yaml_of(key: KbKey, delay_s: float = 1) -> str:
    source = f"{{name: site, type: web, start_urls: ['http://site.example/'], delay_s: {delay_s}}}"
    return f"tenant: {key.tenant}\nkb: {key.kb}\nsources: [{source}]\n"


def apply(db: Database, key: KbKey, delay_s: float = 1) -> str:
    yaml = yaml_of(key, delay_s)
    return catalog.apply_spec(db, parse_spec(yaml, "test"), yaml, "tester")


def publish(db: Database, key: KbKey, run_id: str) -> int:
    lease = leases.acquire_lease(db, key, run_id)
    number = versions.reserve_version(db, lease, run_id)
    versions.record_verdict(db, lease, number, "candidate", manifest_of(key, number))
    versions.publish_version(db, lease, number)
    leases.release_lease(db, lease)
    return number


def expire(db: Database, key: KbKey) -> None:
    with db.write_all() as session:
        session.get_one(Lease, (key.tenant, key.kb)).expires_at = time.time() - 1
