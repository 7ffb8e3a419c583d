"""Token buckets of requests: full at first, refilled evenly, never spent twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import RateBucket
from kb_pipeline.control.metering.rate_limits import OF_TENANT, take_tokens
from kb_pipeline.control.tenancy import tenants


@pytest.fixture
def db(db: Database) -> Database:
    for tenant in ("acme", "globex"):
        tenants.create_tenant(db, tenant, "default", "tester")
    return db


def let_pass(db: Database, seconds: float, tenant: str = "acme") -> None:
    """Let a bucket be as it is that much later."""
    with db.write(tenant) as session:
        session.get_one(RateBucket, (tenant, OF_TENANT)).updated_at -= seconds


def test_a_bucket_is_full_at_first_and_gives_what_it_has(db: Database) -> None:
    assert take_tokens(db, "acme", OF_TENANT, 60, 40).count == 40
    taken = take_tokens(db, "acme", OF_TENANT, 60, 40)
    assert 20 <= taken.count <= 40, "what was refilled meanwhile included"
    assert taken.left >= 0
    assert take_tokens(db, "globex", OF_TENANT, 60, 60).count == 60, "another tenant's is its own"
    assert take_tokens(db, "acme", "0" * 12, 60, 60).count == 60, "and so is a key's"


def test_a_bucket_is_refilled_by_the_rate_and_never_more_than_full(db: Database) -> None:
    assert take_tokens(db, "acme", OF_TENANT, 1, 1).count == 1
    assert take_tokens(db, "acme", OF_TENANT, 1, 1).count == 0
    let_pass(db, 60)
    assert take_tokens(db, "acme", OF_TENANT, 1, 5).count == 1
    let_pass(db, 6000)
    assert take_tokens(db, "acme", OF_TENANT, 1, 5).count == 1


def test_what_was_not_spent_goes_back(db: Database) -> None:
    assert take_tokens(db, "acme", OF_TENANT, 10, 10).count == 10
    assert take_tokens(db, "acme", OF_TENANT, 10, 10, unspent=7).count >= 7


def test_a_clock_that_goes_back_takes_and_gives_nothing(db: Database) -> None:
    take_tokens(db, "acme", OF_TENANT, 1, 1)
    let_pass(db, -3600)
    assert take_tokens(db, "acme", OF_TENANT, 1, 1).count == 0


def test_a_rate_that_is_lowered_holds_at_once(db: Database) -> None:
    take_tokens(db, "acme", OF_TENANT, 1000, 1)
    assert take_tokens(db, "acme", OF_TENANT, 3, 1000).count == 3


def test_takers_at_once_take_no_token_twice(db: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: take_tokens(db, "acme", OF_TENANT, 40, 7).count, range(16)))
    assert 40 <= sum(taken) < 16 * 7
    with db.read("acme") as session:
        assert session.get_one(RateBucket, ("acme", OF_TENANT)).level >= 0
