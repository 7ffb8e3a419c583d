"""Counts what killed runs have used: pages by their journals, tokens by the vector cache."""

from __future__ import annotations

from kb_pipeline.control.coordination.leases import HeldLease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.metering.ledger import PageLedger, pending_batches, settle_batch
from kb_pipeline.embed.refresh import are_stored
from kb_pipeline.fetch.journal_state import unfinished
from kb_pipeline.store.kb_store import KbStore


def recover_usage(db: Database, lease: HeldLease, store: KbStore) -> None:
    """Count all that killed runs of the KB have used; raises DamagedStore or LeaseLost."""
    recover_pages(PageLedger(db, lease), store)
    recover_tokens(db, lease, store)


def recover_pages(ledger: PageLedger, store: KbStore) -> None:
    """Count what interrupted fetches have used, since none of them may ever be resumed; raises LeaseLost."""
    for fetch_id, days in unfinished(store.paths):
        ledger.count(fetch_id, days)


def recover_tokens(db: Database, lease: HeldLease, store: KbStore) -> None:
    """Decide each batch that a killed run left pending: it is counted if its vectors are stored, else dropped.

    Raises:
        DamagedStore: the cache cannot be read.
        LeaseLost: another run took over.
    """
    for batch in pending_batches(db, lease.key):
        is_stored = are_stored(store, batch.model, batch.text_hashes)
        settle_batch(db, lease, batch, is_done=is_stored)
