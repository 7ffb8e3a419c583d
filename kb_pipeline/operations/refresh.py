"""One run's work on one KB: the stages, with the control plane around each of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from kb_pipeline.chunk.refresh import refresh_chunks
from kb_pipeline.chunk.rules import ChunkingRules
from kb_pipeline.chunk.split import embedding_text
from kb_pipeline.clean.refresh import failed_documents, refresh_documents
from kb_pipeline.clean.rules import CleaningRules, library_versions
from kb_pipeline.control.coordination.host_limits import SharedHostScheduler
from kb_pipeline.control.coordination.leases import HeldLease, check_lease, hold_lease, release_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.flags.provider import read_flags
from kb_pipeline.control.flags.registry import CLEAN_FOCUS, JOIN_SECTIONS
from kb_pipeline.control.kbs import catalog, versions
from kb_pipeline.control.kbs.erasures import erased_ids
from kb_pipeline.control.metering import daily_quotas, limits
from kb_pipeline.control.metering.ledger import PageLedger, TokenLedger
from kb_pipeline.control.runs import failures, refreshes
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.embed.long_texts import MeanPooled
from kb_pipeline.embed.model_cache import ModelCache
from kb_pipeline.embed.models import describe_model, model_fingerprint
from kb_pipeline.embed.protocol import Embedder
from kb_pipeline.embed.refresh import refresh_vectors, vectors_table
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import (
    DamagedStore,
    GateFailed,
    KbError,
    NoLiveVersion,
    QuotaExceeded,
    SourceFailed,
    UnknownModel,
)
from kb_pipeline.failpoints import failpoint
from kb_pipeline.fetch.refresh import failed_pages, refresh_pages
from kb_pipeline.fetch.revisit import RevisitPolicy
from kb_pipeline.fetch.source import Source
from kb_pipeline.maintenance.garbage_collection import tidy_tables
from kb_pipeline.maintenance.repair import repair_heads, reset_heads
from kb_pipeline.model import EmbeddingModel, KbKey, ReportProgress, StageReport
from kb_pipeline.operations.housekeeping import tidy_kb
from kb_pipeline.operations.recover_usage import recover_pages, recover_tokens
from kb_pipeline.operations.source_rules import open_sources, origins, recheck_rules
from kb_pipeline.publish.candidate import Candidate, Recipe, build_candidate, pin_candidate, verify_version
from kb_pipeline.publish.integrity_gates import ChunkText, failed_gates
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec
from kb_pipeline.store.durable_files import folder_bytes
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import GateVerdict, Manifest
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import CHUNKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_EARLIER = {
    "fetch": (),
    "clean": (),
    "chunk": ("clean",),
    "embed": ("clean", "chunk"),
    "index": ("clean", "chunk", "embed"),
}
_SAMPLE_ROWS = 5
_SAMPLE_COLUMNS = {
    "pages": ["key", "outcome", "reason", "status", "content_type"],
    "documents": ["key", "language", "outcome", "reason"],
    "chunks": ["key", "ordinal", "tokens", "start", "end"],
}
"""Nothing that documents say, titles neither: what is shown goes into Dagster's event log, which no erasure reaches."""


class RefreshRun:
    """A KB opened for writing by one run, which holds its lease."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        lease: HeldLease,
        run_id: str,
        spec: KbSpec,
        flags: Mapping[str, Any],
        *,
        models: ModelCache | None = None,
        force: bool = False,
        retry: bool = False,
    ) -> None:
        self.settings, self.db, self.lease, self.run_id, self._flags = settings, db, lease, run_id, flags
        self.force, self._retry = force, retry
        self._models = models or ModelCache(settings.models_dir)
        self.key: KbKey = lease.key
        self._live_read: Manifest | None = None
        self._repaired: list[str] = []
        self._units: dict[str, str] = {}
        """By stage, the unit of work that it is in the ledger."""
        self._pages = PageLedger(db, lease)
        self.spec = spec
        self.store = KbStore(KbPaths(settings.data_dir, self.key), lambda: check_lease(db, lease))

    def fetch(self) -> StageReport:
        """Bring pages and raw segments up to the sources."""
        erased = erased_ids(self.db, self.key, [source.name for source in self.spec.sources])
        sources = open_sources(self.spec, self.settings, erased, is_operator=catalog.is_operators(self.db, self.key))
        recheck = recheck_rules(self.spec.schedule, retry=self._retry)
        problems: list[dict[str, Any]] = []
        try:
            report = self._stage("fetch", lambda p: self._refresh_pages(sources, recheck, p))
            problems = report.extra.get("problems", [])
        except SourceFailed as error:
            if self._pages.is_used_up:  # it gave nothing because it was not asked
                raise limits.used_up(self.db, self.key.tenant, daily_quotas.PAGES) from error
            raise
        finally:
            self._keep_failures("fetch", chain(failed_pages(self.store), problems))
        return report

    def clean(self) -> StageReport:
        """Bring documents up to pages."""
        report = self._stage("clean", lambda p: refresh_documents(self.store, self._cleaning, self.run_id, p))
        self._keep_failures("clean", failed_documents(self.store))
        limits.check_count(self.db, self.key, "documents", report.passed)
        return report

    def chunk(self) -> StageReport:
        """Bring chunks up to documents."""
        report = self._stage("chunk", lambda p: refresh_chunks(self.store, self._chunking, open_tokenizer, p))
        limits.check_count(self.db, self.key, "chunks", self.store.tables.open(CHUNKS).count())
        return report

    def embed(self) -> StageReport:
        """Bring the tenant's vectors up to the chunks."""
        return self._stage("embed", self._refresh_vectors)

    def check_quotas(self) -> None:
        """Whether the tenant's plan lets this run begin; raises QuotaExceeded.

        What a run that was killed had taken and not used is counted first.
        """
        recover_pages(self._pages, self.store)
        limits.check_run(self.db, self.spec, lambda: folder_bytes(self.store.paths.of_tenant))
        limits.snooze(self.db, self.key, None)

    def build_candidate(self) -> Candidate:
        """Build the next version unseen, judge it, pin it; a held or failed one ends the refresh.

        With `force`, checks that are a matter of judgement warn instead of holding it.
        """
        candidate = self._with_repair("index", self._build_candidate)
        self._finish(candidate.report)
        again = self._held_already(candidate)
        self._supersede_pending(besides=again)
        if again is not None:
            self._end_unpublished(candidate, again)
        elif not candidate.unchanged:
            self._settle(candidate)
        return candidate

    def publish(self) -> dict[str, Any]:
        """Make this run's candidate the live version, if it made one; ends the refresh."""
        check_lease(self.db, self.lease)
        warnings = self.warnings()
        # Not by run: a run re-executed from the failed step publishes what the first one built and checked.
        pending = versions.pending_versions(self.db, self.key)
        number = next((each.number for each in pending if each.status == "candidate"), None)
        live = self._live()
        if number is None:
            status: refreshes.RefreshStatus = "unchanged"
            number = live.version if live else None
        else:
            self._move_pointer(number, "candidate")
            status = "ready_with_warnings" if warnings else "ready"
        self._end(status, number, "; ".join(warnings) or None)
        return {"status": status, "version": number}

    def publish_held(self, number: int) -> None:
        """Make a held version live because a person wants it; ends the refresh."""
        self._move_pointer(number, "held", self.settings.actor)
        self._end("ready", number, "approved")

    def end_part(self, assets: Sequence[str]) -> None:
        """A run that does not go on to publishing ends here; its work stays for the next one."""
        self._end("partial", None, f"only {', '.join(assets)}; nothing was published")

    def live_counts(self) -> dict[str, int]:
        """Documents and chunks of the live version."""
        live = self._live()
        return asdict(live.counts) if live else {}

    def sample(self, table: str) -> list[dict[str, Any]]:
        """A few rows of a stage table, for the eye."""
        rows = self.store.tables.open(table).head(_SAMPLE_COLUMNS[table], _SAMPLE_ROWS)
        return [self.spec.redact(row) for row in rows.to_pylist()]

    def links(self) -> dict[str, str]:
        """Where each source starts, by its name."""
        return origins(self.spec)

    def size_of(self, part: str) -> int:
        """Bytes on disk of the KB's raw segments or Lance tables."""
        return folder_bytes({"raw": self.store.paths.raw, "lance": self.store.paths.lance}[part])

    def warnings(self) -> list[str]:
        """What an operator should know of this run though it may publish."""
        row = refreshes.get_refresh(self.db, self.key, self.run_id)
        stages = row.stages if row else {}
        found = [
            f"{failed.total()} {noun} failed ({_top(dict(failed.most_common()))}); see: kb failures {self.key}"
            for stage, noun in (("fetch", "pages"), ("clean", "documents"))
            if (failed := _failed(stages.get(stage, {})))
        ]
        if left_out := stages.get("fetch", {}).get("failed_by_reason", {}).get("quota"):
            found.append(
                f"{left_out} pages were not asked for: {limits.used_up(self.db, self.key.tenant, daily_quotas.PAGES)}"
            )
        repaired = {what: None for report in stages.values() for what in report.get("repaired", [])}
        found += [f"damaged data was set aside and made again: {what}" for what in repaired]
        return found + language_warnings(self.spec.embedding.model, stages.get("clean", {}).get("languages", {}))

    def _refresh_pages(
        self, sources: Sequence[Source], recheck: RevisitPolicy, progress: ReportProgress
    ) -> StageReport:
        return refresh_pages(self.store, sources, self.run_id, progress, self._turns, recheck, self._pages)

    def _refresh_vectors(self, progress: ReportProgress) -> StageReport:
        recover_tokens(self.db, self.lease, self.store)
        ledger = TokenLedger(self.db, self.lease, self._model)
        return refresh_vectors(self.store, self._model, self._open_embedder, embedding_text, progress, ledger)

    def _turns(self, source: str) -> SharedHostScheduler:
        return SharedHostScheduler(self.db, self.key.tenant, f"{self.run_id} {source}")

    @cached_property
    def _model(self) -> EmbeddingModel:
        name = self.spec.embedding.model
        return EmbeddingModel(name, model_fingerprint(name), describe_model(name).dimension)

    @property
    def _cleaning(self) -> CleaningRules:
        return CleaningRules(focus=self._flags[CLEAN_FOCUS.name])

    @property
    def _chunking(self) -> ChunkingRules:
        given = self.spec.chunking
        return ChunkingRules(
            given.strategy, given.max_tokens, given.overlap_tokens, given.preserve_code,
            join_sections=self._flags[JOIN_SECTIONS.name],
        )  # fmt: skip

    @property
    def _recipe(self) -> Recipe:
        rules = {"clean": self._cleaning.as_json(), "chunk": self._chunking.as_json()}
        return Recipe(rules, library_versions())

    def _open_embedder(self) -> Embedder:
        embedding = self.spec.embedding
        embedder = self._models.open(embedding.model, embedding.precision)
        return MeanPooled(embedder, open_tokenizer(embedding.model))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query."""
        return self._embedder.embed_query(text)

    def embed_query_with(self, model: EmbeddingModel, text: str) -> NDArray[np.float32]:
        """The vector of a query to a version made with another model, as its manifest names it; raises UnknownModel."""
        return self._open_earlier(model.name, model.fingerprint).embed_query(text)

    def embed_chunks(self, chunks: Sequence[ChunkText]) -> NDArray[np.float32]:
        """The vectors of chunks, from their title, headings and text."""
        return self._embedder.embed_passages(
            [embedding_text(chunk.title, chunk.headings, chunk.text) for chunk in chunks]
        )

    def _open_earlier(self, name: str, fingerprint: str) -> Embedder:
        if model_fingerprint(name) != fingerprint:
            raise UnknownModel(name, "its files are not those that the version was made with")
        return self._models.open(name, self.spec.embedding.precision)

    @cached_property
    def _embedder(self) -> Embedder:
        return self._open_embedder()

    def _build_candidate(self, progress: ReportProgress) -> Candidate:
        live = self._live()
        tidy_tables(self.store, live)
        candidate = build_candidate(
            self.store, self.spec, self._model, vectors_table(self.store, self._model), live, self,
            self._recipe, self.run_id, progress, versions.rolled_back_manifests(self.db, self.key),
        )  # fmt: skip
        gates = (replace(g, message=self.spec.redact(g.message)) for g in candidate.gates)  # they name pages
        return replace(candidate, gates=tuple(gates))

    def _held_already(self, candidate: Candidate) -> int | None:
        """The version that waits for approval with the same content: its number is what people were told."""
        if candidate.status != "held" or self.force:
            return None
        content = candidate.manifest.content.sha256
        for pending in versions.pending_versions(self.db, self.key):
            if pending.status == "held" and pending.manifest and pending.manifest.content.sha256 == content:
                return pending.number
        return None

    def _supersede_pending(self, besides: int | None) -> None:
        """What was built before and not published is overtaken by what the sources say now."""
        for pending in versions.pending_versions(self.db, self.key):
            if pending.number != besides:
                versions.record_verdict(self.db, self.lease, pending.number, "superseded")

    def _move_pointer(self, number: int, expected: str, actor: str | None = None) -> None:
        verify_version(self.store, versions.get_manifest(self.db, self.key, number))
        failpoint("publish.before")
        versions.publish_version(self.db, self.lease, number, expected, actor)
        self._live_read = None
        failpoint("publish.after")
        tidy_kb(
            self.store, self.db, self.lease, self.spec.retention.versions, self.spec.embedding.model
        )  # fmt: skip
        failpoint("tidy.after")

    def _settle(self, candidate: Candidate) -> None:
        number = versions.reserve_version(self.db, self.lease, self.run_id)
        failpoint("reserve.after")
        status = "candidate" if candidate.status == "held" and self.force else candidate.status
        forced = failed_gates(candidate.gates) if status != candidate.status else ()
        manifest = replace(candidate.manifest, version=number, gates=_gate_verdicts(candidate), forced=tuple(forced))
        if status != "failed":
            manifest = pin_candidate(self.store, manifest, number, self._live())
        failpoint("settle.before")
        versions.record_verdict(self.db, self.lease, number, status, manifest)
        if status == "failed":
            live, failed = self._live(), [gate.name for gate in candidate.gates if not gate.passed]
            self._repaired += reset_heads(self.store, live, failed) + repair_heads(self.store, live)
            self._finish(candidate.report)
        if status != "candidate":
            self._end_unpublished(candidate, number)

    def _end_unpublished(self, candidate: Candidate, number: int) -> None:
        problem = str(GateFailed(self.key, failed_gates(candidate.gates)))
        if candidate.status == "held":
            self._end("held", number, f"{problem}. Let it through with: kb approve {self.key} {number}")
        else:
            self._end("failed", number, problem)

    def _stage(self, name: str, work: Callable[[ReportProgress], StageReport]) -> StageReport:
        report = self._with_repair(name, work)
        self._finish(report)
        return report

    def _with_repair(self, name: str, work: Callable[[ReportProgress], _Result]) -> _Result:
        """Do a stage's work; when what is stored cannot be read, mend it, catch up and do it again."""
        progress = refreshes.StageProgress(self.db, self.key, self.run_id, name)
        self._units[name] = f"{self.run_id}/{name}/{time.time_ns():x}"
        try:
            return work(progress)
        except DamagedStore as error:
            repaired = repair_heads(self.store, self._live())
            if not repaired and name != "index":  # the index may lack vectors that another KB's erasure took
                raise
            logger.warning("%s: %s; %s", self.key, error, "; ".join(repaired))
            self._repaired += repaired
        # What was damaged may be behind what its own stage had already made of today's sources.
        for stage in _EARLIER[name]:
            getattr(self, stage)()
        return work(progress)

    def _finish(self, report: StageReport) -> None:
        # Also where nothing was written: a writer that was replaced has nothing to say of the KB.
        check_lease(self.db, self.lease)
        if self._repaired:
            report.extra["repaired"] = list(self._repaired)
        report.extra = self.spec.redact(report.extra)
        refreshes.finish_stage(self.db, self.key, self.run_id, report, self._units[report.stage])

    def _keep_failures(self, stage: str, rows: Iterable[dict[str, Any]]) -> None:
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
        check_lease(self.db, self.lease)
        failures.replace_failures(self.db, self.key, stage, items)

    def _live(self) -> Manifest | None:
        """Return the live version's manifest, read once: only who holds the lease moves the pointer."""
        if self._live_read is None:
            try:
                self._live_read = versions.live_manifest(self.db, self.key)
            except NoLiveVersion:
                return None
        return self._live_read

    def _end(self, status: refreshes.RefreshStatus, version: int | None, message: str | None) -> None:
        refreshes.end_refresh(self.db, self.key, self.run_id, status, version, message)
        release_lease(self.db, self.lease)


def language_warnings(model: str, languages: Iterable[str]) -> list[str]:
    """Say which of the languages the model was not made for."""
    known = describe_model(model).languages
    foreign = sorted(set(languages) - {"und"} - known) if known else []
    if not foreign:
        return []
    return [
        f"the model {model} does not know {', '.join(foreign)}: such documents are found by words only; "
        "choose embedding.model multilingual-e5-small"
    ]


def _gate_verdicts(candidate: Candidate) -> dict[str, GateVerdict]:
    return {gate.name: GateVerdict(gate.passed, gate.message) for gate in candidate.gates}


def _failed(report: Mapping[str, Any]) -> Counter[str]:
    """By reason; what a quota left out did not fail."""
    return Counter({reason: n for reason, n in report.get("failed_by_reason", {}).items() if reason != "quota"})


def _top(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in list(reasons.items())[:3])


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
) -> Iterator[RefreshRun]:
    """Hold the KB's lease and note the refresh; an exception ends the refresh as failed, with its message.

    Args:
        settings: of the installation.
        db: its control plane.
        key: the KB.
        run_id: the run; its stages may each be opened so, one after the other.
        models: keeps embedding models open from one stage to the next.
        force: whether checks that are a matter of judgement do not hold a version.
        retry: whether what failed is asked for again, however often and recently it did.

    Raises:
        UnknownKb: the KB has not been applied.
        TenantInactive: its tenant is suspended, or being deleted.
        LeaseHeld: another run writes it.
        QuotaExceeded: its tenant's plan does not let it begin; with `renews_at` it is snoozed until then.
    """
    record = catalog.get_kb(db, key)
    require_active(db, key.tenant)
    with hold_lease(db, key, run_id) as lease:
        spec: KbSpec | None = None
        try:
            flags, begins = refreshes.begin_refresh(db, key, run_id, lambda: read_flags(db, key))
            spec = record.read_spec(settings)
            workspace = RefreshRun(settings, db, lease, run_id, spec, flags, models=models, force=force, retry=retry)
            if begins:
                workspace.check_quotas()
            yield workspace
        except QuotaExceeded as error:
            status: refreshes.RefreshStatus = "snoozed" if error.renews_at else "failed"
            limits.snooze(db, key, error.renews_at)
            refreshes.end_refresh(db, key, run_id, status, message=str(error))
            raise
        except KbError as error:
            _hide_values(spec, error)
            refreshes.end_refresh(db, key, run_id, "failed", message=str(error))
            raise
        except BaseException as error:
            _hide_values(spec, error)
            # Interrupts, Dagster's too, are no errors to Python.
            what = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else "cancelled"
            refreshes.end_refresh(db, key, run_id, "failed", message=what)
            raise


def _hide_values(spec: KbSpec | None, error: BaseException | None) -> None:
    """Take what variables gave out of what an error and its causes say: Dagster keeps all of it in its event log."""
    while spec is not None and error is not None:
        error.args = tuple(spec.redact(said) for said in error.args)
        error = error.__cause__ or error.__context__
