"""Refreshes a KB: the stages of one run, with the control plane around each of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

from kb_pipeline.chunk.refresh import refresh_chunks
from kb_pipeline.chunk.split import embedding_text
from kb_pipeline.clean.refresh import failed_documents, refresh_documents
from kb_pipeline.control.coordination.host_limits import SharedHostScheduler
from kb_pipeline.control.coordination.leases import hold_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.flags.provider import read_flags
from kb_pipeline.control.flags.registry import FlagValue
from kb_pipeline.control.kbs import catalog
from kb_pipeline.control.kbs.erasures import erased_ids
from kb_pipeline.control.metering import daily_quotas, limits
from kb_pipeline.control.metering.ledger import PageLedger, TokenLedger
from kb_pipeline.control.runs import failures, refreshes
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.embed.model_cache import ModelCache
from kb_pipeline.embed.refresh import refresh_vectors
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import ChildCrashed, DamagedStore, KbError, LeaseHeld, QuotaExceeded, SourceFailed
from kb_pipeline.fetch.refresh import failed_pages, refresh_pages
from kb_pipeline.fetch.revisit import RevisitPolicy
from kb_pipeline.fetch.source import Source
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import KbKey, ReportProgress, StageReport
from kb_pipeline.operations.build_candidate import CandidateBuilder
from kb_pipeline.operations.embedding import RunEmbedding
from kb_pipeline.operations.key_fates import ended_documents, take_account
from kb_pipeline.operations.publish import Publication, publish_candidate
from kb_pipeline.operations.recover_usage import recover_pages, recover_tokens
from kb_pipeline.operations.run_context import RunContext
from kb_pipeline.operations.run_summary import RunSummary
from kb_pipeline.operations.source_rules import open_sources, recheck_rules
from kb_pipeline.operations.stage_rules import StageRules
from kb_pipeline.operations.stage_runner import StageRunner
from kb_pipeline.publish.candidate import Candidate
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec
from kb_pipeline.store.durable_files import folder_bytes
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, PAGES
from kb_pipeline.store.table import LanceTable, sql_in

TRIED_AGAIN = (LeaseHeld, ChildCrashed)
"""Errors after which the same run begins again by itself, a few times; other transient ones wait for the next one."""


class RefreshRun:
    """A KB opened for writing by one run, which holds its lease: its stages, in the order in which they run.

    Args:
        context: the run.
        flags: the value of each flag, fixed when the run began.
        models: keeps embedding models open.
        force: whether a failed check that is a matter of judgement warns instead of holding the version.
        retry: whether pages that failed are requested again, however often and recently they did.
        retry_ids: ids (model.document_id) of keys that are requested again so.
    """

    def __init__(
        self,
        context: RunContext,
        flags: Mapping[str, FlagValue],
        models: ModelCache,
        *,
        force: bool = False,
        retry: bool = False,
        retry_ids: Collection[str] = (),
    ) -> None:
        self._context, self._retry, self._retry_ids = context, retry, retry_ids
        self.force = force
        self.summary = RunSummary(context)
        self._rules = StageRules(context.spec, flags)
        self._embedding = RunEmbedding(context.spec.embedding, models)
        self._runner = StageRunner(context)
        self._pages = PageLedger(context.db, context.lease)

    @property
    def key(self) -> KbKey:
        """The KB."""
        return self._context.key

    @property
    def spec(self) -> KbSpec:
        """The KB file as it was when the step began."""
        return self._context.spec

    def fetch(self) -> StageReport:
        """Bring pages and raw segments up to the sources."""
        sources, policy = self._open_sources(), self._revisit_policy()
        problems: list[Mapping[str, Any]] = []
        try:
            report = self._runner.run("fetch", lambda p: self._refresh_pages(sources, policy, p))
            problems = report.extra.get("problems", [])
        except SourceFailed as error:
            if self._pages.is_used_up:  # the source gave nothing because no page was requested
                raise limits.used_up(self._context.db, self._context.key.tenant, daily_quotas.PAGES) from error
            raise
        finally:
            self._replace_failures("fetch", chain(failed_pages(self._context.store), problems))
        return report

    def clean(self) -> StageReport:
        """Bring documents up to pages."""
        context = self._context
        report = self._runner.run("clean", self._refresh_documents)
        self._replace_failures("clean", failed_documents(context.store))
        limits.check_count(context.db, context.key, "documents", report.passed)
        return report

    def chunk(self) -> StageReport:
        """Bring chunks up to documents."""
        context, rules = self._context, self._rules.chunking
        report = self._runner.run(
            "chunk", lambda p: refresh_chunks(context.store, rules, open_tokenizer, p), earlier=[self.clean]
        )
        limits.check_count(context.db, context.key, "chunks", context.store.tables.open(CHUNKS).count())
        return report

    def embed(self) -> StageReport:
        """Bring the tenant's vectors up to the chunks."""
        return self._runner.run("embed", self._refresh_vectors, earlier=[self.clean, self.chunk])

    def check_quotas(self) -> None:
        """Check that the tenant's plan lets this run begin; raises QuotaExceeded.

        The pages that a killed run took from a quota and used are counted first.
        """
        context = self._context
        recover_pages(self._pages, context.store)
        limits.check_run(context.db, context.spec, lambda: folder_bytes(context.store.paths.of_tenant))
        limits.snooze(context.db, context.key, None)

    def build_candidate(self) -> Candidate:
        """Build the next version where no reader sees it, judge it and pin it; a held or failed one ends the refresh.

        With `force`, failed checks that are a matter of judgement warn instead of holding it.
        """
        builder = CandidateBuilder(
            self._context, self._runner, self._embedding, self._rules.recipe(), force=self.force
        )  # fmt: skip
        candidate = self._runner.run_with_repair(
            "index", builder.build, earlier=[self.clean, self.chunk, self.embed]
        )  # fmt: skip
        self._runner.record(candidate.report)
        builder.record(candidate)
        return candidate

    def publish(self) -> Publication:
        """Make this run's candidate the live version, if it made one; ends the refresh."""
        return publish_candidate(self._context, self.summary.warnings(), self.summary.notes())

    def end_partial(self, assets: Sequence[str]) -> None:
        """End a run over some assets only, without publishing; the next run goes on from what it has stored."""
        self._context.end("partial", None, f"only {', '.join(assets)}; nothing was published")

    def _revisit_policy(self) -> RevisitPolicy:
        policy, store = recheck_rules(self.spec.schedule, retry=self._retry), self._context.store
        if not self._retry_ids or not store.tables.exists(PAGES):
            return policy
        rows = store.tables.open(PAGES).read_columns(["key"], sql_in("page_id", self._retry_ids))
        return replace(policy, keys=frozenset(rows["key"]))

    def _open_sources(self) -> list[Source]:
        context = self._context
        erased = erased_ids(context.db, context.key, [source.name for source in self.spec.sources])
        is_operator = catalog.is_operators(context.db, context.key)
        return open_sources(self.spec, context.settings, erased, is_operator=is_operator)

    def _refresh_pages(self, sources: Sequence[Source], policy: RevisitPolicy, progress: ReportProgress) -> StageReport:
        store, run_id = self._context.store, self._context.run_id
        return refresh_pages(store, sources, run_id, progress, self._host_scheduler, policy, self._pages)

    def _refresh_documents(self, progress: ReportProgress) -> StageReport:
        context = self._context
        report = refresh_documents(context.store, self._rules.cleaning, context.run_id, progress)
        pages, documents = (context.store.tables.open(name) for name in (PAGES, DOCUMENTS))
        fetched = refreshes.newest_report(context.db, context.key, "fetch")
        report.extra["account"] = take_account(pages, documents, fetched).as_json()
        if ended := self._ended(pages, documents):
            report.extra["ended"] = ended
        return report

    def _ended(self, pages: LanceTable, documents: LanceTable) -> dict[str, int]:
        """Return how many documents of the live version are none any more, by reason; none if it cannot be read."""
        live = self._context.live_manifest()
        if live is None:
            return {}
        try:
            with VersionReader(self._context.store, live) as version:
                return ended_documents(pages, documents, version.table("documents"))
        except DamagedStore:  # candidates and readers deal with that
            return {}

    def _host_scheduler(self, source: str) -> SharedHostScheduler:
        return SharedHostScheduler(self._context.db, self._context.key.tenant, f"{self._context.run_id} {source}")

    def _refresh_vectors(self, progress: ReportProgress) -> StageReport:
        context, model = self._context, self._embedding.model
        recover_tokens(context.db, context.lease, context.store)
        ledger = TokenLedger(context.db, context.lease, model)
        return refresh_vectors(context.store, model, self._embedding.open, embedding_text, progress, ledger)

    def _replace_failures(self, stage: str, rows: Iterable[Mapping[str, Any]]) -> None:
        items = (
            failures.FailedItem(
                row["source"],
                row["key"],
                row["reason"],
                self.spec.redact(row["message"] or ""),
                row["outcome"] == "failed",
                row.get("failures"),
                row.get("tried_at"),
            )
            for row in rows
        )
        self._context.check_lease()
        failures.replace_failures(self._context.db, self._context.key, stage, items)


@contextmanager
def open_refresh_run(
    settings: Settings,
    db: Database,
    key: KbKey,
    run_id: str,
    *,
    models: ModelCache | None = None,
    force: bool = False,
    retry: bool = False,
    retry_ids: Collection[str] = (),
    launch: refreshes.Launch = refreshes.Launch(),  # noqa: B008 - frozen
) -> Iterator[RefreshRun]:
    """Hold the KB's lease and record the refresh.

    An exception ends the refresh as failed, with its message, an interrupt as cancelled.

    Args:
        settings: of the installation.
        db: its control plane.
        key: the KB.
        run_id: the run; its stages may each be opened so, one after the other.
        models: keeps embedding models open from one stage to the next.
        force: whether a failed check that is a matter of judgement warns instead of holding the version.
        retry: whether pages that failed are requested again, however often and recently they did.
        retry_ids: ids (model.document_id) of keys that are requested again so.
        launch: why the run was started.

    Raises:
        UnknownKb: the KB has not been applied.
        JobWithdrawn: its job was cancelled before it began.
        TenantInactive: its tenant is suspended, or being deleted.
        LeaseHeld: another run writes it.
        QuotaExceeded: its tenant's plan does not let it begin; with `renews_at` it is snoozed until then.
    """
    record = catalog.get_kb(db, key)
    require_active(db, key.tenant)
    with hold_lease(db, key, run_id) as lease:
        spec: KbSpec | None = None
        try:
            flags, begins = refreshes.begin_refresh(db, key, run_id, lambda: read_flags(db, key), launch)
            spec = record.read_spec(settings)
            context = RunContext(settings, db, lease, run_id, spec)
            models = models or ModelCache(settings.models_dir)
            run = RefreshRun(context, flags, models, force=force, retry=retry, retry_ids=retry_ids)
            if begins:
                run.check_quotas()
            yield run
        except QuotaExceeded as error:
            status: refreshes.RefreshStatus = "snoozed" if error.renews_at else "failed"
            limits.snooze(db, key, error.renews_at)
            refreshes.end_refresh(db, key, run_id, status, message=str(error))
            raise
        except KbError as error:
            _redact_error(spec, error)
            is_tried_again = isinstance(error, TRIED_AGAIN)
            refreshes.end_refresh(db, key, run_id, "failed", message=str(error), is_tried_again=is_tried_again)
            raise
        except BaseException as error:
            _redact_error(spec, error)
            if isinstance(error, Exception):
                refreshes.end_refresh(db, key, run_id, "failed", message=f"{type(error).__name__}: {error}")
            else:  # interrupts, Dagster's too, are no errors to Python
                refreshes.end_refresh(db, key, run_id, "cancelled", message="cancelled")
            raise


def _redact_error(spec: KbSpec | None, error: BaseException | None) -> None:
    """Redact what variables gave in the messages of an error and its causes: Dagster's event log keeps them."""
    while spec is not None and error is not None:
        error.args = tuple(spec.redact(argument) for argument in error.args)
        error = error.__cause__ or error.__context__
