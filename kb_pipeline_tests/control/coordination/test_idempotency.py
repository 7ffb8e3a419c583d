"""A request is done once by its key, and may be done again only where nothing was done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import func, select, update

from kb_pipeline.control.coordination.idempotency import OnceAnswer, answer_once, forget_old_requests
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import IdempotentRequest
from kb_pipeline.errors import KeyReused
from kb_pipeline.model import JsonObject, RequestOnce

ASKED = RequestOnce("mary", "k", "digest")
numbers = count()


def ask(db: Database, request: RequestOnce | None, tenant: str = "acme") -> OnceAnswer:
    def work() -> JsonObject:
        return {"number": next(numbers)}

    with db.write(tenant) as session:
        return answer_once(session, tenant, request, work)


def test_a_request_with_a_key_is_done_once_and_one_without_always(db: Database) -> None:
    first, again = ask(db, ASKED), ask(db, ASKED)
    assert (first.is_replayed, again.is_replayed, again.body) == (False, True, first.body)
    assert ask(db, None).body != ask(db, None).body
    for other in (RequestOnce("john", "k", "digest"), RequestOnce("mary", "l", "digest")):
        assert not ask(db, other).is_replayed
    assert not ask(db, ASKED, "globex").is_replayed
    with pytest.raises(KeyReused):
        ask(db, RequestOnce("mary", "k", "another"))


def test_a_request_that_failed_may_be_sent_again(db: Database) -> None:
    def fail() -> JsonObject:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), db.write("acme") as session:
        answer_once(session, "acme", ASKED, fail)
    assert not ask(db, ASKED).is_replayed


def test_a_key_may_be_used_again_after_a_day(db: Database) -> None:
    first = ask(db, ASKED)
    with db.write("acme") as session:
        session.execute(update(IdempotentRequest).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert ask(db, ASKED).body != first.body
    forget_old_requests(db)
    assert ask(db, ASKED).is_replayed
    with db.write("acme") as session:
        session.execute(update(IdempotentRequest).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    forget_old_requests(db)
    with db.read("acme") as session:
        assert session.scalar(select(func.count()).select_from(IdempotentRequest)) == 0
