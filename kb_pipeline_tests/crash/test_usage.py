"""The ledger says what the server answered and what the cache stores, however often a refresh was killed on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.control.metering import daily_quotas
from kb_pipeline.control.metering.report import list_usage
from kb_pipeline.control.tenancy.plans import apply_plans
from kb_pipeline.embed.models import model_fingerprint
from kb_pipeline.embed.refresh import vectors_name
from kb_pipeline.spec.plan_file import PlanSpec
from kb_pipeline.store.stage_tables import CHUNKS
from kb_pipeline_tests.crash.orchard import FRUITS, KEY, MODEL, Orchard, plant
from kb_pipeline_tests.site import Site, serve_site

RANDOM_KILLS = int(os.environ.get("KB_TEST_RANDOM_KILLS", "1"))
"""`make bench` does fifty."""
KILLED_AT = ("journal.segment", "fetch.counted", "raw.adopt", "embed.begun", "embed.stored")
PLAN = {"plan": "default", "limits": {"pages_per_day": 100_000, "embedding_tokens_per_day": 10_000_000}}


class Truth:
    """What one home's refreshes have really used, by those who saw it."""

    def __init__(self, orchard: Orchard, site: Site) -> None:
        self._orchard, self._site = orchard, site
        self._tokens: dict[str, int] = {}

    def look(self) -> None:
        """Remember the texts that there are now: the next run's may be others."""
        tables = self._orchard.store.tables
        if tables.exists(CHUNKS):
            self._tokens |= dict(tables.open(CHUNKS).read_columns(["text_hash", "tokens"]).iter_rows())

    @property
    def pages(self) -> int:
        return sum(self._site.answered[path] for path in self._site.pages)

    @property
    def bytes(self) -> int:
        return sum(self._site.sent[path] for path in self._site.pages)

    @property
    def tokens(self) -> int:
        cache = self._orchard.store.vectors.open(vectors_name(model_fingerprint(MODEL)))
        return sum(self._tokens[text] for text in cache.read_columns(["text_hash"])["text_hash"])


@pytest.fixture
def orchard(tmp_path: Path, models_dir: Path) -> Orchard:
    orchard = Orchard(tmp_path / "home")
    orchard.home.mkdir()
    (orchard.home / "models").symlink_to(models_dir)
    return orchard


def apply(orchard: Orchard, site: Site) -> None:
    source = {"name": "site", "type": "web", "start_urls": [f"{site.url}/"], "delay_s": 0}
    spec = {"tenant": KEY.tenant, "kb": KEY.kb, "sources": [source], "embedding": {"model": MODEL}}
    file = orchard.home.parent / "docs.yaml"
    file.write_text(json.dumps(spec))
    applied = orchard.kb("apply", str(file))
    assert applied.returncode == 0, applied.stderr
    apply_plans(orchard.db, [PlanSpec.model_validate(PLAN)], "tester")


def change(site: Site, number: int) -> None:
    """Every run has something to fetch and to embed."""
    for fruit in FRUITS[number % 3 :: 3]:
        text = f"In year {number} the {fruit} was picked late, and {number + 7} baskets of it went to the cellar."
        site.put(f"/{fruit}", fruit.title(), text)


def kill_at(orchard: Orchard, failpoint: str, run_id: str) -> None:
    status, _, _ = orchard.refresh(run_id, KB_FAILPOINT=failpoint)
    assert status != 0, f"{failpoint} was passed and nobody died"


def kill_after(orchard: Orchard, seconds: float, run_id: str) -> None:
    run = orchard.start(run_id)
    time.sleep(seconds)
    run.send_signal(signal.SIGKILL)
    run.communicate()


def test_usage_equals_the_truth_however_often_a_refresh_is_killed(orchard: Orchard) -> None:
    chance = random.Random(20261125)
    moments: list[Any] = [*KILLED_AT, *(chance.uniform(0.3, 4.0) for _ in range(RANDOM_KILLS))]
    with serve_site() as site:
        plant(site)
        apply(orchard, site)
        truth = Truth(orchard, site)
        for number, moment in enumerate(moments):
            (kill_at if isinstance(moment, str) else kill_after)(orchard, moment, f"run-{number}")
            orchard.wait_for_children()
            truth.look()
            orchard.expire_lease()
            change(site, number)
        status, refresh, err = orchard.refresh("last")
        truth.look()
    assert status == 0, err[-2000:]
    assert refresh["status"] == "ready"
    used = {row.operation: row for row in list_usage(orchard.db, KEY.tenant, by="operation")}
    assert (used["fetch"].pages, used["fetch"].bytes) == (truth.pages, truth.bytes)
    assert used["embed"].tokens == truth.tokens
    with orchard.db.read(KEY.tenant) as session:
        taken = [daily_quotas.taken_today(session, quota) for quota in (daily_quotas.PAGES, daily_quotas.TOKENS)]
    assert taken == [truth.pages, truth.tokens], "nothing is taken that was not used"
