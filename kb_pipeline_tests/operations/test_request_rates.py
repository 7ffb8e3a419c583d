"""Rates of requests, held by all processes together and written for few of them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import RateBucket
from kb_pipeline.control.metering.rate_limits import OF_TENANT
from kb_pipeline.control.tenancy import api_keys, plans, tenants
from kb_pipeline.errors import RateLimited
from kb_pipeline.operations.authorization import Caller
from kb_pipeline.operations.request_rates import RequestRates
from kb_pipeline.spec.plan_file import PlanSpec


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """With a tenant."""
    database = Database(f"sqlite:///{tmp_path}/control.db")
    tenants.create_tenant(database, "acme", "default", "tester")
    yield database
    database.dispose()


def limit(db: Database, per_minute: int) -> None:
    limits = {"requests_per_minute": per_minute}
    plans.apply_plans(db, [PlanSpec.model_validate({"plan": "default", "limits": limits})], "tester")


def caller_of(db: Database, per_minute: int | None = None) -> Caller:
    key, _ = api_keys.create_key(db, "acme", ["read"], "tester", requests_per_minute=per_minute)
    holder = api_keys.authenticate(db, key)
    return Caller(holder.actor, holder)


def admitted(rates: RequestRates, caller: Caller, attempts: int) -> int:
    count = 0
    for _ in range(attempts):
        try:
            rates.admit(caller)
        except RateLimited:
            continue
        count += 1
    return count


def _admitted_elsewhere(given: tuple[str, Caller]) -> int:
    url, caller = given
    db = Database(url)
    try:
        return admitted(RequestRates(db), caller, 1000)
    finally:
        db.dispose()


def test_nobody_is_limited_unless_a_plan_or_a_key_says_so(db: Database) -> None:
    assert RequestRates(db).admit(caller_of(db)) == ()
    limit(db, 1)
    assert RequestRates(db).admit(Caller("operator")) == ()


def test_processes_together_admit_no_more_than_the_bucket_holds(db: Database) -> None:
    limit(db, 300)
    caller, begun = caller_of(db), time.monotonic()
    url = db.url.render_as_string(hide_password=False)
    with multiprocessing.get_context("spawn").Pool(3) as processes:
        counts = processes.map(_admitted_elsewhere, [(url, caller)] * 3, chunksize=1)
    assert 300 - 3 * 5 <= sum(counts) <= 300 + (time.monotonic() - begun) * 300 / 60


def test_a_request_beyond_the_rate_is_told_when_to_come_again(db: Database) -> None:
    limit(db, 2)
    rates, caller = RequestRates(db), caller_of(db)
    (first,) = rates.admit(caller)
    assert (first.name, first.quota, first.window_s, first.remaining) == ("tenant", 2, 60, 1)
    assert 0 < first.full_after_s <= 60
    rates.admit(caller)
    with pytest.raises(RateLimited, match="more than 2 requests a minute") as refused:
        rates.admit(caller)
    assert 0 < refused.value.retry_after_s <= 30
    assert refused.value.allowance.remaining == 0


def test_a_keys_own_rate_comes_first_and_counts_for_the_tenant_too(db: Database) -> None:
    limit(db, 4)
    rates, narrow, wide = RequestRates(db), caller_of(db, 1), caller_of(db)
    assert [each.name for each in rates.admit(narrow)] == ["key", "tenant"]
    with pytest.raises(RateLimited, match="the rate of the key"):
        rates.admit(narrow)
    assert admitted(rates, wide, 10) == 3


def test_what_the_tenants_rate_refuses_is_not_counted_by_the_key(db: Database) -> None:
    limit(db, 1)
    rates, caller = RequestRates(db), caller_of(db, 600)
    assert caller.holder is not None
    rates.admit(caller)
    of_key = rates._blocks["acme", caller.holder.id]
    assert of_key.unspent == 9
    with pytest.raises(RateLimited, match="the rate of the plan"):
        rates.admit(caller)
    assert of_key.unspent == 9


def test_few_of_many_requests_are_written(db: Database) -> None:
    limit(db, 60_000)
    rates, caller, written = RequestRates(db), caller_of(db), []
    event.listen(db._hasty, "commit", lambda _: written.append(1))
    assert admitted(rates, caller, 2000) == 2000
    assert 2 <= len(written) <= 4, "blocks of a thousand; one more where two seconds passed"


def test_tokens_that_were_not_spent_are_put_back_after_a_moment(db: Database) -> None:
    now = [0.0]
    limit(db, 120)
    rates, caller = RequestRates(db, lambda: now[0]), caller_of(db)
    rates.admit(caller)
    with db.write("acme") as session:
        row = session.get_one(RateBucket, ("acme", OF_TENANT))
        assert row.level == 118, "two are a second's, of which one is spent"
        row.updated_at += 3600  # nothing is refilled meanwhile
    now[0] += 3
    rates.admit(caller)
    with db.read("acme") as session:
        assert session.get_one(RateBucket, ("acme", OF_TENANT)).level == 117
