"""One run's work on one KB: the stages, with the control plane around each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kb_pipeline.chunk.refresh import refresh_chunks
from kb_pipeline.chunk.rules import CHUNK_VERSION, ChunkingRules
from kb_pipeline.chunk.split import embedding_text
from kb_pipeline.clean.refresh import failed_documents, refresh_documents
from kb_pipeline.clean.rules import CLEAN_VERSION, CleaningRules
from kb_pipeline.control import catalogue, failures, refreshes, versions
from kb_pipeline.control.database import Database
from kb_pipeline.control.leases import HeldLease, hold_lease, release_lease
from kb_pipeline.embed import open_embedder
from kb_pipeline.embed.models import describe_model, model_fingerprint
from kb_pipeline.embed.refresh import refresh_vectors, vectors_table
from kb_pipeline.embed.texts import Embedder
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import GateFailed, InvalidSpec, KbError, NoLiveVersion, Problem
from kb_pipeline.fetch.refresh import failed_pages, refresh_pages
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.fetch.web.scope import glob_problem
from kb_pipeline.index.candidate import Candidate, build_candidate, pin_candidate, unpin_version
from kb_pipeline.index.gates import failed_gates
from kb_pipeline.model import EmbeddingModel, KbKey, ReportProgress, StageReport
from kb_pipeline.settings import Settings
from kb_pipeline.spec import KbSpec, WebSource
from kb_pipeline.storage import KbPaths, folder_bytes
from kb_pipeline.tables import KbStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SAMPLE_ROWS = 5
_SAMPLE_COLUMNS = {
    "pages": ["key", "outcome", "reason", "status", "content_type"],
    "documents": ["key", "title", "language", "outcome", "reason"],
    "chunks": ["key", "ordinal", "tokens", "text"],
}
CODE_VERSIONS = {"clean": CLEAN_VERSION, "chunk": CHUNK_VERSION}


class Workspace:
    """A KB opened for writing by one run, which holds its lease."""

    def __init__(self, settings: Settings, db: Database, lease: HeldLease, run_id: str) -> None:
        self.settings, self.db, self.lease, self.run_id = settings, db, lease, run_id
        self.key: KbKey = lease.key
        self.spec = catalogue.get_kb(db, self.key).spec
        self.store = KbStore(KbPaths(settings.data_dir, self.key))

    def fetch(self) -> StageReport:
        """Bring pages and raw segments up to the sources."""
        rules = [crawl_rules(source, self.settings) for source in self.spec.sources]
        try:
            return self._stage("fetch", lambda p: refresh_pages(self.store, rules, self.run_id, p))
        finally:
            self._keep_failures("fetch", failed_pages(self.store))

    def clean(self) -> StageReport:
        """Bring documents up to pages."""
        report = self._stage("clean", lambda p: refresh_documents(self.store, CleaningRules(), self.run_id, p))
        self._keep_failures("clean", failed_documents(self.store))
        return report

    def chunk(self) -> StageReport:
        """Bring chunks up to documents."""
        chunking, model = self.spec.chunking, self.spec.embedding.model
        rules = ChunkingRules(chunking.strategy, chunking.max_tokens, chunking.overlap_tokens, chunking.preserve_code)
        return self._stage(
            "chunk", lambda p: refresh_chunks(self.store, rules, lambda: open_tokenizer(model), model, p)
        )

    def embed(self) -> StageReport:
        """Bring the tenant's vectors up to the chunks."""
        return self._stage(
            "embed", lambda p: refresh_vectors(self.store, self._model, self._open_embedder, embedding_text, p)
        )

    def build_candidate(self) -> Candidate:
        """Build the next version unseen, judge it, pin it; a held or failed one ends the refresh."""
        vectors = vectors_table(self.store, self._model)
        progress = refreshes.StageProgress(self.db, self.key, self.run_id, "index")
        candidate = build_candidate(
            self.store, self.spec, self._model, vectors, self._live(), self, CODE_VERSIONS, self.run_id,
            progress,
        )  # fmt: skip
        refreshes.finish_stage(self.db, self.key, self.run_id, candidate.report)
        self._supersede_pending()
        if not candidate.unchanged:
            self._settle(candidate)
        return candidate

    def publish(self) -> dict[str, Any]:
        """Make this run's candidate the live version, if it made one; ends the refresh."""
        # Not by run: a run re-executed from the failed step publishes what the first one built and checked.
        ready = [number for number, status, _ in versions.pending_versions(self.db, self.key) if status == "candidate"]
        number = ready[0] if ready else None
        live = self._live()
        if number is None:
            status: refreshes.RefreshStatus = "unchanged"
            number = live["version"] if live else None
        else:
            versions.publish_version(self.db, self.lease, number)
            status = "ready_with_warnings" if self.warnings() else "ready"
            prune_versions(self.db, self.store, self.lease, self.spec.retention.versions)
        self._end(status, number, "; ".join(self.warnings()) or None)
        return {"status": status, "version": number}

    def end_part(self, assets: Sequence[str]) -> None:
        """A run that does not go on to publishing ends here; its work stays for the next one."""
        self._end("partial", None, f"only {', '.join(assets)}; nothing was published")

    def live_counts(self) -> dict[str, int]:
        """Documents and chunks of the live version."""
        live = self._live()
        return dict(live["counts"]) if live else {}

    def sample(self, table: str) -> list[dict[str, Any]]:
        """A few rows of a stage table, for the eye."""
        return self.store.tables.open(table).head(_SAMPLE_COLUMNS[table], _SAMPLE_ROWS)

    def size_of(self, part: str) -> int:
        """Bytes on disk of the KB's raw segments or Lance tables."""
        return folder_bytes({"raw": self.store.paths.raw, "lance": self.store.paths.lance}[part])

    def warnings(self) -> list[str]:
        """What an operator should know of this run though it may publish."""
        row = refreshes.get_refresh(self.db, self.key, self.run_id)
        stages = row.stages if row else {}
        found = [
            f"{stages[stage]['failed']} {noun} failed ({_top(stages[stage]['failed_by_reason'])}); "
            f"see: kb failures {self.key}"
            for stage, noun in (("fetch", "pages"), ("clean", "documents"))
            if stages.get(stage, {}).get("failed")
        ]
        return found + language_warnings(self.spec.embedding.model, stages.get("clean", {}).get("languages", {}))

    @cached_property
    def _model(self) -> EmbeddingModel:
        name = self.spec.embedding.model
        return EmbeddingModel(name, model_fingerprint(name), describe_model(name).dimension)

    def _open_embedder(self) -> Embedder:
        embedding = self.spec.embedding
        return open_embedder(embedding.model, embedding.precision, self.settings.models_dir)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query."""
        return self._embedder.embed_query(text)

    def embed_chunks(self, rows: list[dict[str, Any]]) -> NDArray[np.float32]:
        """The vectors of chunks, from their title, headings and text."""
        return self._embedder.embed_passages(
            [embedding_text(row["title"], row["headings"], row["text"]) for row in rows]
        )

    @cached_property
    def _embedder(self) -> Embedder:
        return self._open_embedder()

    def _supersede_pending(self) -> None:
        """What was built before and not published is overtaken by what the sources say now."""
        for number, _, manifest in versions.pending_versions(self.db, self.key):
            versions.settle_version(self.db, self.lease, number, "superseded", manifest)
            unpin_version(self.store, manifest | {"version": number})

    def _settle(self, candidate: Candidate) -> None:
        number = versions.reserve_version(self.db, self.lease, self.run_id)
        manifest = candidate.manifest | {"version": number, "gates": _gate_messages(candidate)}
        if candidate.status != "failed":
            manifest = pin_candidate(self.store, manifest, number, self._live())
        versions.settle_version(self.db, self.lease, number, candidate.status, manifest)
        if candidate.status != "candidate":
            problem = GateFailed(self.key, failed_gates(candidate.gates))
            self._end("held" if candidate.status == "held" else "failed", number, str(problem))

    def _stage(self, name: str, work: Callable[[ReportProgress], StageReport]) -> StageReport:
        report = work(refreshes.StageProgress(self.db, self.key, self.run_id, name))
        refreshes.finish_stage(self.db, self.key, self.run_id, report)
        return report

    def _keep_failures(self, stage: str, rows: Iterable[dict[str, Any]]) -> None:
        items = (
            failures.FailedItem(
                row["source"], row["key"], row["reason"], row["message"] or "", row["outcome"] == "failed"
            )
            for row in rows
        )
        failures.replace_failures(self.db, self.key, stage, items)

    def _live(self) -> dict[str, Any] | None:
        try:
            return versions.live_manifest(self.db, self.key)
        except NoLiveVersion:
            return None

    def _end(self, status: refreshes.RefreshStatus, version: int | None, message: str | None) -> None:
        refreshes.end_refresh(self.db, self.key, self.run_id, status, version, message)
        release_lease(self.db, self.lease)


def crawl_rules(source: WebSource, settings: Settings) -> CrawlRules:
    """What a source of the KB file and the operator's settings ask of the crawler."""
    return CrawlRules(
        source=source.name,
        start_urls=tuple(source.start_urls),
        sitemap=source.sitemap if isinstance(source.sitemap, str) else tuple(source.sitemap),
        scope=source.scope,
        include=tuple(source.include),
        exclude=tuple(source.exclude),
        max_pages=source.max_pages,
        max_depth=source.max_depth,
        delay_s=source.delay_s,
        user_agent=settings.user_agent,
        allowed_networks=settings.allowed_networks,
    )


def check_spec(spec: KbSpec, file: str) -> None:
    """Check what needs more than the file: the model and the path globs; raises UnknownModel or InvalidSpec."""
    describe_model(spec.embedding.model)
    problems = [
        Problem(f"sources.{source.name}.{field}", repr(glob), problem)
        for source in spec.sources
        for field in ("include", "exclude")
        for glob in getattr(source, field)
        if (problem := glob_problem(glob))
    ]
    if problems:
        raise InvalidSpec(file, problems)


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


def prune_versions(db: Database, store: KbStore, lease: HeldLease, keep: int) -> None:
    """Let cleanup take the published versions beyond `keep`."""
    published = 0
    for version in versions.list_versions(db, lease.key):
        published += version["status"] == "published"
        if version["status"] == "published" and published > keep and not version["live"]:
            manifest = versions.get_manifest(db, lease.key, version["version"])
            versions.mark_pruned(db, lease, version["version"])
            unpin_version(store, manifest | {"version": version["version"]})


def _gate_messages(candidate: Candidate) -> dict[str, dict[str, Any]]:
    return {gate.name: {"passed": gate.passed, "message": gate.message} for gate in candidate.gates}


def _top(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in list(reasons.items())[:3])


@contextmanager
def open_workspace(settings: Settings, db: Database, key: KbKey, run_id: str) -> Iterator[Workspace]:
    """Hold the KB's lease and note the refresh; an exception ends the refresh as failed, with its message.

    Raises:
        UnknownKb: the KB has not been applied.
        LeaseHeld: another run writes it.
    """
    catalogue.get_kb(db, key)
    with hold_lease(db, key, run_id) as lease:
        refreshes.begin_refresh(db, key, run_id)
        try:
            yield Workspace(settings, db, lease, run_id)
        except KbError as error:
            refreshes.end_refresh(db, key, run_id, "failed", message=str(error))
            raise
        except BaseException as error:
            what = "cancelled" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
            refreshes.end_refresh(db, key, run_id, "failed", message=what)
            raise
