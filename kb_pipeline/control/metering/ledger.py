"""The usage ledger: counts each unit of work once, however often it is tried, retried or killed.

A unit's name makes it count once:

- `fetch/FETCH_ID/DAY`: pages and bytes. The fetch's journal, which survives kills, is the authority: the row is set
  to what the journal says, any number of times, and always before the journal is removed.
- `embed/DIGEST`: tokens of a batch of texts, and their cost. The row is written before the work as pending, which
  counts for nothing, and settled when the vectors are stored. Whether a batch that a killed run left pending was
  embedded is decided by the vector cache; see operations.recover_usage.
- `stage/RUN/STAGE/BEGINNING`: seconds, written in the transaction that keeps the stage's report.
- `answer/ID`: tokens that a model read and wrote for an answer, and their cost; written when it has ended.
- `kept/DIGEST`: what a tenant's deleted KBs had used on a day, written in the transaction that removes their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.coordination.leases import HeldLease, verify_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import DELETED_KBS, Bucket, Usage
from kb_pipeline.control.metering import daily_quotas
from kb_pipeline.control.tenancy.plans import limits_within
from kb_pipeline.errors import QuotaExceeded
from kb_pipeline.model import EmbeddingModel, KbKey, PagesUsed, StageReport, digest


class PageLedger:
    """Grants and counts the pages of one KB's fetches: the `PageAccount` of the fetch stage."""

    def __init__(self, db: Database, lease: HeldLease) -> None:
        self._db, self._lease, self._key = db, lease, lease.key
        self.is_used_up = False
        """Whether the last `take` was granted nothing."""

    def take(self, pages: int) -> int | None:
        """Return how many of `pages` pages may be fetched, 0 to all; None when the plan has no limit."""
        with self._db.write(self._key.tenant) as session:
            limit = limits_within(session, self._key.tenant).pages_per_day
            if limit is None:
                return None
            taken = daily_quotas.take(session, self._key, daily_quotas.PAGES, pages, limit)
        self.is_used_up = not taken
        return taken

    def count(self, fetch_id: str, days: Mapping[str, PagesUsed]) -> None:
        """Set what a fetch has used, by UTC day.

        Raises:
            LeaseLost: another run took over, and knows more than this one.
        """
        with self._db.write(self._key.tenant) as session:
            verify_lease(session, self._lease)
            for day, used in days.items():
                row = _unit(session, self._key, f"fetch/{fetch_id}/{day}", self._lease.owner, day, "fetch")
                row.pages, row.bytes = used.pages, used.bytes
            _settle_bucket(session, self._key, daily_quotas.PAGES)


class TokenLedger:
    """Grants and counts the tokens of one KB's embedding: the `TokenAccount` of the embed stage."""

    def __init__(self, db: Database, lease: HeldLease, model: EmbeddingModel) -> None:
        self._db, self._lease, self._key, self._model = db, lease, lease.key, model

    def begin(self, unit: str, texts: Sequence[str], tokens: Sequence[int]) -> int:
        """Record that a batch is about to be embedded; return how many of its texts, from the first on, are allowed.

        Args:
            unit: the batch's name, which makes it count once.
            texts: the hashes of its texts.
            tokens: the number of tokens of each text.

        Raises:
            QuotaExceeded: not even the first text fits.
            LeaseLost: another run took over.
        """
        with self._db.write(self._key.tenant) as session:
            verify_lease(session, self._lease)
            limits = limits_within(session, self._key.tenant)
            limit = limits.embedding_tokens_per_day
            taken = daily_quotas.take(session, self._key, daily_quotas.TOKENS, sum(tokens), limit)
            fits = _leading(tokens, taken)
            if not fits and limit is not None:
                used = daily_quotas.taken_today(session, daily_quotas.TOKENS) - taken
                renews_at = daily_quotas.renews_at(session)
                raise QuotaExceeded(self._key.tenant, limits.plan, daily_quotas.TOKENS, used, limit, renews_at)
            row = _unit(session, self._key, f"embed/{unit}", self._lease.owner, daily_quotas.today(session), "embed")
            row.model, row.tokens = self._model.name, sum(tokens[:fits])
            # A price of a million tokens is one of millionths a token.
            row.cost_micros = round(row.tokens * limits.prices.get(self._model.name, 0.0))
            row.pending = {"model": self._model.fingerprint, "texts": list(texts[:fits])}
            _settle_bucket(session, self._key, daily_quotas.TOKENS)
        return fits

    def done(self, unit: str) -> None:
        """Record that the vectors of a batch are stored; raises LeaseLost."""
        with self._db.write(self._key.tenant) as session:
            verify_lease(session, self._lease)
            session.get_one(Usage, (self._key.tenant, self._key.kb, f"embed/{unit}")).pending = None


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch of texts of which the ledger does not know whether it was embedded."""

    unit: str
    model: str
    """Fingerprint of the model."""
    text_hashes: tuple[str, ...]


def pending_batches(db: Database, key: KbKey) -> list[PendingBatch]:
    """Return the batches of a KB that are being embedded, or were when their run was killed."""
    query = select(Usage.unit, Usage.pending).where(Usage.kb == key.kb, Usage.pending.is_not(None))
    with db.read(key.tenant) as session:
        rows = session.execute(query).all()
    return [PendingBatch(unit, pending["model"], tuple(pending["texts"])) for unit, pending in rows if pending]


def settle_batch(db: Database, lease: HeldLease, batch: PendingBatch, *, is_done: bool) -> None:
    """Count a pending batch, or forget it if it was never embedded; raises LeaseLost."""
    key = lease.key
    with db.write(key.tenant) as session:
        verify_lease(session, lease)
        row = session.get_one(Usage, (key.tenant, key.kb, batch.unit))
        if is_done:
            row.pending = None
        else:
            session.delete(row)
        _settle_bucket(session, key, daily_quotas.TOKENS)


def note_seconds(session: Session, key: KbKey, run_id: str, report: StageReport, unit: str) -> None:
    """Record how long a stage took, within the transaction that keeps its report."""
    row = _unit(session, key, f"stage/{unit}", run_id, daily_quotas.today(session), report.stage)
    row.seconds = report.seconds


def note_answer(db: Database, key: KbKey, unit: str, model: str, tokens: int) -> float | None:
    """Record what a model's answer took; returns its cost, None where the tenant's plan has no price of the model."""
    with db.write(key.tenant) as session:
        price = limits_within(session, key.tenant).prices.get(model)
        row = _unit(session, key, f"answer/{unit}", "", daily_quotas.today(session), "answer")
        row.model, row.tokens, row.cost_micros = model, tokens, round(tokens * (price or 0.0))
        return None if price is None else row.cost_micros / 1_000_000


def keep_of_deleted(session: Session, key: KbKey) -> None:
    """Move what a KB has used to its tenant, without the KB's name, within the transaction that removes the KB.

    Otherwise deleting a KB would delete a bill and give the day's quotas back.
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


def _unit(session: Session, key: KbKey, unit: str, run_id: str, day: str, operation: str) -> Usage:
    row = session.get(Usage, (key.tenant, key.kb, unit))
    if row is None:
        row = Usage(tenant=key.tenant, kb=key.kb, unit=unit, operation=operation, day=day, pending=None)
        session.add(row)
    row.run_id = run_id
    return row


def _settle_bucket(session: Session, key: KbKey, quota: str) -> None:
    """Set what the KB has taken of a daily quota to what its rows of today say; pending batches count as used."""
    session.flush()
    column = Usage.pages if quota == daily_quotas.PAGES else Usage.tokens
    today = daily_quotas.today(session)
    # Tokens of answers are none of those that embedding is limited to.
    query = select(func.sum(column)).where(Usage.kb == key.kb, Usage.day == today, Usage.operation != "answer")
    daily_quotas.settle(session, key, quota, int(session.scalar(query) or 0))


def _leading(tokens: Sequence[int], allowed: int) -> int:
    """Return how many texts, from the first on, have at most `allowed` tokens together."""
    total = 0
    for number, count in enumerate(tokens):
        total += count
        if total > allowed:
            return number
    return len(tokens)
