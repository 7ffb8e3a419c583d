"""The ledger: what each unit of work used, once however often it was tried, retried or killed.

A unit's name makes it count once:

- `fetch/FETCH_ID/DAY`: pages and bytes. The truth is the crawl's journal, which survives kills;
  the row is set to what the journal says, however often, and always before the journal goes.
- `embed/DIGEST`: tokens and their cost, of a batch of texts. Written before the work as an intent that counts for
  nothing, and settled when the vectors are stored. Of an intent that a killed run left, the cache tells which it was.
- `stage/RUN/STAGE/BEGINNING`: seconds, written in the transaction that keeps the stage's report.
- `kept/DIGEST`: what a tenant's deleted KBs had used on a day, written in the transaction that removes their rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.coordination.leases import HeldLease, verify_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import DELETED_KBS, Bucket, Usage
from kb_pipeline.control.metering import daily_quotas
from kb_pipeline.control.tenancy.plans import limits_within
from kb_pipeline.embed.refresh import are_stored
from kb_pipeline.errors import QuotaExceeded
from kb_pipeline.fetch.refresh import unfinished
from kb_pipeline.fetch.web.crawl.journal import PagesUsed
from kb_pipeline.model import EmbeddingModel, KbKey, StageReport, digest
from kb_pipeline.store.lance_table import KbStore


class PageLedger:
    """The account of a KB's fetches; see fetch.web.allowance.PageAccount."""

    def __init__(self, db: Database, lease: HeldLease) -> None:
        self._db, self._lease, self._key = db, lease, lease.key
        self.is_used_up = False
        """Whether a crawl got none of the pages that it asked for."""

    def take(self, pages: int) -> int | None:
        """How many of so many pages may be asked for; None when nothing limits them."""
        with self._db.write(self._key.tenant) as session:
            limit = limits_within(session, self._key.tenant).pages_per_day
            if limit is None:
                return None
            taken = daily_quotas.take(session, self._key, daily_quotas.PAGES, pages, limit)
        self.is_used_up = not taken
        return taken

    def count(self, fetch_id: str, days: Mapping[str, PagesUsed]) -> None:
        """Set what a fetch has used; raises LeaseLost: a writer that was replaced knows less than its heir."""
        with self._db.write(self._key.tenant) as session:
            verify_lease(session, self._lease)
            for day, used in days.items():
                row = _unit(session, self._key, f"fetch/{fetch_id}/{day}", self._lease.owner, day, "fetch")
                row.pages, row.bytes = used.pages, used.bytes
            _settle_bucket(session, self._key, daily_quotas.PAGES)

    def count_unfinished(self, store: KbStore) -> None:
        """What killed fetches have used; nobody may ever take them up again."""
        for fetch_id, days in unfinished(store.paths):
            self.count(fetch_id, days)


class TokenLedger:
    """The account of a KB's embedding; see embed.refresh.TokenAccount."""

    def __init__(self, db: Database, lease: HeldLease, model: EmbeddingModel) -> None:
        self._db, self._lease, self._key, self._model = db, lease, lease.key, model

    def begin(self, unit: str, texts: Sequence[str], tokens: Sequence[int]) -> int:
        """Note that a batch is about to be embedded; how many of its texts, from the first on, the quota allows.

        Raises:
            QuotaExceeded: not one of them.
            LeaseLost: another run took over.
        """
        with self._db.write(self._key.tenant) as session:
            verify_lease(session, self._lease)
            limits = limits_within(session, self._key.tenant)
            limit = limits.embedding_tokens_per_day
            taken = daily_quotas.take(session, self._key, daily_quotas.TOKENS, sum(tokens), limit)
            fits = _leading(tokens, taken)
            if not fits and limit is not None:
                used, renews_at = (
                    daily_quotas.taken_today(session, daily_quotas.TOKENS) - taken,
                    daily_quotas.renews_at(session),
                )
                raise QuotaExceeded(self._key.tenant, limits.plan, daily_quotas.TOKENS, used, limit, renews_at)
            row = _unit(session, self._key, f"embed/{unit}", self._lease.owner, daily_quotas.today(session), "embed")
            row.model, row.tokens = self._model.name, sum(tokens[:fits])
            # A price of a million tokens is one of millionths a token.
            row.cost_micros = round(row.tokens * limits.prices.get(self._model.name, 0.0))
            row.pending = {"model": self._model.fingerprint, "texts": list(texts[:fits])}
            _settle_bucket(session, self._key, daily_quotas.TOKENS)
        return fits

    def done(self, unit: str) -> None:
        """The vectors of a batch are stored; raises LeaseLost."""
        with self._db.write(self._key.tenant) as session:
            verify_lease(session, self._lease)
            session.get_one(Usage, (self._key.tenant, self._key.kb, f"embed/{unit}")).pending = None


def reconcile_usage(db: Database, lease: HeldLease, store: KbStore) -> None:
    """Find out of each batch that a killed run left whether its vectors are stored: then it counts, else it never was.

    Raises:
        DamagedStore: the cache cannot be read.
        LeaseLost: another run took over.
    """
    key = lease.key
    for unit, pending in list(_pending(db, key)):
        counts = are_stored(store, pending["model"], pending["texts"])
        with db.write(key.tenant) as session:
            verify_lease(session, lease)
            row = session.get_one(Usage, (key.tenant, key.kb, unit))
            if counts:
                row.pending = None
            else:
                session.delete(row)
            session.flush()
            _settle_bucket(session, key, daily_quotas.TOKENS)


def note_seconds(session: Session, key: KbKey, run_id: str, report: StageReport, unit: str) -> None:
    """Within the transaction that keeps a stage's report: how long the stage took."""
    row = _unit(session, key, f"stage/{unit}", run_id, daily_quotas.today(session), report.stage)
    row.seconds = report.seconds


def keep_of_deleted(session: Session, key: KbKey) -> None:
    """Within the operator's transaction that removes a KB: what it has used stays its tenant's, without its name.

    Else whoever deletes a KB would delete a bill, and fill the day's quotas again.
    """
    columns = (Usage.day, Usage.operation, Usage.model)
    figures = (Usage.pages, Usage.bytes, Usage.tokens, Usage.seconds, Usage.cost_micros)
    of_kb = (Usage.tenant == key.tenant, Usage.kb == key.kb, Usage.pending.is_(None))
    query = select(*columns, *(func.sum(figure) for figure in figures)).where(*of_kb).group_by(*columns)
    for day, operation, model, *sums in session.execute(query).all():
        unit = f"kept/{digest(day, operation, model)}"
        row = session.get(Usage, (key.tenant, DELETED_KBS, unit))
        if row is None:
            row = Usage(
                tenant=key.tenant, kb=DELETED_KBS, unit=unit, run_id="", day=day, operation=operation, model=model,
                pending=None, **{figure.key: 0 for figure in figures},
            )  # fmt: skip
            session.add(row)
        for figure, total in zip(figures, sums, strict=True):
            exact = total if figure is Usage.seconds else int(total)  # Postgres sums integers up as decimals
            setattr(row, figure.key, getattr(row, figure.key) + exact)
    today = (Bucket.tenant == key.tenant, Bucket.kb == key.kb, Bucket.day == daily_quotas.today(session))
    for bucket in session.scalars(select(Bucket).where(*today)).all():
        daily_quotas.hand_over(session, bucket, DELETED_KBS)


def _pending(db: Database, key: KbKey) -> Iterator[tuple[str, dict[str, Any]]]:
    query = select(Usage.unit, Usage.pending).where(Usage.kb == key.kb, Usage.pending.is_not(None))
    with db.read(key.tenant) as session:
        for unit, pending in session.execute(query):
            yield unit, pending or {}


def _unit(session: Session, key: KbKey, unit: str, run_id: str, day: str, operation: str) -> Usage:
    row = session.get(Usage, (key.tenant, key.kb, unit))
    if row is None:
        row = Usage(tenant=key.tenant, kb=key.kb, unit=unit, operation=operation, day=day, pending=None)
        session.add(row)
    row.run_id = run_id
    return row


def _settle_bucket(session: Session, key: KbKey, quota: str) -> None:
    """Intents hold what they mean to use."""
    session.flush()
    column = Usage.pages if quota == daily_quotas.PAGES else Usage.tokens
    query = select(func.sum(column)).where(Usage.kb == key.kb, Usage.day == daily_quotas.today(session))
    daily_quotas.settle(session, key, quota, int(session.scalar(query) or 0))


def _leading(tokens: Sequence[int], allowed: int) -> int:
    """How many of the first texts have no more tokens than that together."""
    total = 0
    for number, count in enumerate(tokens):
        total += count
        if total > allowed:
            return number
    return len(tokens)
