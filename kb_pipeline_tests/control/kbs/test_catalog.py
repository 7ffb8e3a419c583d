"""Which KBs exist, and what applying a file does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import catalog, versions
from kb_pipeline.errors import UnknownKb
from kb_pipeline_tests.control.planes import ACME, apply


def test_applying_says_created_updated_or_unchanged(db: Database) -> None:
    assert [apply(db, ACME), apply(db, ACME), apply(db, ACME, delay_s=2)] == ["created", "unchanged", "updated"]
    assert catalog.get_kb(db, ACME).revision == 2
    assert "delay_s: 2" in catalog.get_kb(db, ACME).yaml


def test_unknown_kb_is_an_error_that_names_the_remedy(db: Database) -> None:
    with pytest.raises(UnknownKb, match="kb apply FILE"):
        catalog.get_kb(db, ACME)
    with pytest.raises(UnknownKb):
        versions.live_manifest(db, ACME)


def test_times_come_back_aware(db: Database) -> None:
    apply(db, ACME)
    created = catalog.get_kb(db, ACME).created_at
    assert created.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=1)
