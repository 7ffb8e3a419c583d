"""Ctrl-C at every transaction with which a refresh begins and ends: it never stays `running`, nor its KB taken."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from kb_pipeline.control.coordination.leases import current_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import apply_spec
from kb_pipeline.control.runs.refreshes import get_refresh
from kb_pipeline.errors import SourceFailed
from kb_pipeline.model import KbKey
from kb_pipeline.operations.refresh import open_refresh_run
from kb_pipeline.settings import load_settings
from kb_pipeline.spec.kb_file import parse_spec

KEY = KbKey("acme", "docs")
_YAML = "{tenant: acme, kb: docs, sources: [{name: site, type: web, start_urls: ['http://site.example/']}]}"


class Cancelled(BaseException):
    """What Dagster raises in a step is no KeyboardInterrupt."""


@contextmanager
def interrupted_at(db: Database, which: str, number: int) -> Iterator[list[int]]:
    """Send SIGINT in the number-th begin or commit of a transaction; yields how many there were."""
    seen = [0]

    def cancel(*_: object) -> None:
        raise Cancelled

    def count(_: object) -> None:
        seen[0] += 1
        if seen[0] == number:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, cancel)
    event.listen(db.engine, which, count)
    try:
        yield seen
    finally:
        event.remove(db.engine, which, count)
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
@pytest.mark.parametrize("which", ["begin", "commit"])
def test_a_refresh_interrupted_anywhere_has_ended_and_holds_nothing(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, fails: bool
) -> None:
    monkeypatch.setenv("KB_HOME", str(tmp_path))
    apply_spec(db, parse_spec(_YAML, "test"), _YAML, "tester")
    number, seen = 0, [0]
    while number <= seen[0]:  # until it is over before the signal would come
        number += 1
        run_id = f"run {number}"
        try:
            with interrupted_at(db, which, number) as seen, open_refresh_run(load_settings(), db, KEY, run_id) as run:
                if fails:
                    raise SourceFailed("site", "it gave nothing")
                run.publish()
        except (Cancelled, SourceFailed):
            pass
        row, lease = get_refresh(db, KEY, run_id), current_lease(db, KEY)
        assert row is None or row.status in ("failed", "cancelled", "unchanged"), f"interrupted at {which} {number}"
        assert lease is None, f"interrupted at {which} {number}"
    assert number > 5
