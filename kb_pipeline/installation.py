"""The Python API: a home, opened for a caller; every shell calls it.

`kb_pipeline.open()` opens the home that the environment names as its operator, `kb_pipeline.open(api_key="kb_...")`
as the holder of that key, who sees its own tenant's KBs within the key's scopes. An `Installation` is meant to live as
long as the process: it is safe to use from many threads, and keeps models and tables open, in bounded numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from kb_pipeline.administration import ApiKeys, AuditLog, Drafts, Flags, OperatorKeys, Plans, Secrets, Tenants
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import catalog, versions
from kb_pipeline.control.metering import limits, report
from kb_pipeline.control.runs import failures, overview, requests, status
from kb_pipeline.control.runs.job_events import JobEventRecord, list_events, list_log, newest_numbers
from kb_pipeline.control.runs.jobs import JobRecord, get_job, list_jobs, newest_job
from kb_pipeline.control.tenancy.tenants import get_tenant
from kb_pipeline.errors import UnknownJob, UnknownKb
from kb_pipeline.model import KbKey, RequestOnce
from kb_pipeline.operations.authentication import Authenticator
from kb_pipeline.operations.authorization import Caller, operation
from kb_pipeline.operations.readers import Readers
from kb_pipeline.operations.request_rates import RequestRates
from kb_pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from kb_pipeline.account import Account
    from kb_pipeline.allowance import Allowance
    from kb_pipeline.answers.events import AnswerEvent
    from kb_pipeline.answers.result import Answer, AnswerMode
    from kb_pipeline.control.kbs.erasure_receipt import ErasureReceipt
    from kb_pipeline.index.diff import ChunkChange, DocumentChange, DocumentChanges, VersionDiff
    from kb_pipeline.index.document_chunks import StoredChunk
    from kb_pipeline.index.document_page import DocumentPage
    from kb_pipeline.index.documents import ListedDocument, StoredDocument
    from kb_pipeline.index.documents_by_time import TimedPage
    from kb_pipeline.index.export import Export
    from kb_pipeline.index.reader import VersionReader
    from kb_pipeline.index.search import Mode
    from kb_pipeline.index.similar import SimilarChunks
    from kb_pipeline.operations.apply import AppliedKb, KbText
    from kb_pipeline.operations.approve import Approval
    from kb_pipeline.operations.backup import Backup
    from kb_pipeline.operations.cancel import Cancellation
    from kb_pipeline.operations.delete import DeletionPlan
    from kb_pipeline.operations.deletion_receipt import DeletionReceipt
    from kb_pipeline.operations.embed_texts import EmbeddedTexts
    from kb_pipeline.operations.explain import Explanation
    from kb_pipeline.operations.extract import ExtractedFile, UnextractedFile
    from kb_pipeline.operations.key_fates import LeftOutKey
    from kb_pipeline.operations.launch import ProgressListener, RefreshResult
    from kb_pipeline.operations.metrics import Metric
    from kb_pipeline.operations.observer import Observer
    from kb_pipeline.operations.orchestrator import Orchestrator
    from kb_pipeline.operations.plan_erasure import ErasurePlan
    from kb_pipeline.operations.readiness import Dependency
    from kb_pipeline.operations.replay import Replay
    from kb_pipeline.operations.restore import Restoration
    from kb_pipeline.operations.retry import RetryResult
    from kb_pipeline.operations.rollback import Rollback
    from kb_pipeline.operations.run_log import LogLine
    from kb_pipeline.operations.search import SearchResult
    from kb_pipeline.operations.vectorize import VectorizedText

_Result = TypeVar("_Result")
_LIKENESS = 0.75
"""Of difflib: what is less like the key of a KB was not meant for it."""
AsOf = int | str | datetime | None
"""Which version to read: a number, the one that was live at a time (ISO text or datetime), or None for the live one."""

Filters = Mapping[str, Any] | None
"""Which documents to search, as in `{"type": "eq", "key": "language", "value": "en"}`; None for all."""


class Installation:
    """A home and its control plane, opened for one caller.

    `close()`, or the end of a `with` block, closes what it holds open; KBs that it gave are of no use after that.
    """

    def __init__(
        self,
        settings: Settings,
        db: Database,
        caller: Caller,
        authenticator: Authenticator,
        rates: RequestRates,
        readers: Readers | None = None,
    ) -> None:
        self._settings = replace(settings, actor=caller.actor)
        self._db = db
        self._caller = caller
        self._authenticator, self._rates = authenticator, rates
        self._is_shared = readers is not None
        self._readers = readers or Readers(settings, db)

    @property
    def caller(self) -> Caller:
        """Who it acts for."""
        return self._caller

    @property
    def settings(self) -> Settings:
        """Where things live and what the operator allows."""
        return self._settings

    def acting_as(self, token: str) -> Installation:
        """Return the same installation for the holder of a token; `close` leaves open what the two share.

        Args:
            token: an API key, an operator key or a JSON Web Token.

        Raises:
            KeyRefused, TenantInactive: nobody may call with that token.
            IssuerAway: the issuer of a JSON Web Token cannot be asked for its keys.
        """
        caller = self._authenticator.identify(token)
        return Installation(self._settings, self._db, caller, self._authenticator, self._rates, self._readers)

    def count_request(self) -> tuple[Allowance, ...]:
        """Count one request of the caller; return what is left of each rate that it is held to.

        What is called in this process is not counted by itself: a service counts what comes from elsewhere.

        Raises:
            RateLimited: there were too many within the last minute, over all processes.
        """
        return self._rates.admit(self._caller)

    def close(self) -> None:
        """Close tables, models and database connections; may be called again. What is shared stays open."""
        if self._is_shared:
            return
        self._readers.close()
        self._db.dispose()

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @operation("list")
    def kbs(self) -> list[Kb]:
        """Return the KBs that the caller can see, by key."""
        return self._visible_kbs()

    def _visible_kbs(self) -> list[Kb]:
        tenant = self._caller.tenant
        records = catalog.list_kbs(self._db) if tenant is None else catalog.list_kbs_of(self._db, tenant)
        return [Kb(self, record.key) for record in records if self._caller.sees(record.key)]

    @operation("list")
    def overview(self, tenant: str | None = None) -> list[overview.KbOverview]:
        """Return how each KB stands, by key: state, live version, last and next refresh, failures.

        Args:
            tenant: only that tenant's; a token's holder sees its own.

        Raises:
            UnknownTenant: there is none such, or it is not the caller's.
        """
        named = self._caller.tenant_named(tenant)
        if named is not None:
            get_tenant(self._db, named)
        return [each for each in overview.list_overviews(self._db, named) if self._caller.sees(each.kb)]

    def kb(self, key: str | KbKey) -> Kb:
        """Return one KB, `tenant/kb`.

        Raises:
            InvalidKey: that is not how KBs are named.
            UnknownKb: there is none such, or the caller cannot see it: it is another tenant's, say.
        """
        named = key if isinstance(key, KbKey) else KbKey.parse(key)
        try:
            return Kb(self, catalog.get_kb(self._db, self._caller.visible_kb(named)).key)
        except UnknownKb:
            known = [str(kb.key) for kb in self._visible_kbs()]  # of the caller's own: nothing is told of others'
            near = get_close_matches(str(named), known, n=1, cutoff=_LIKENESS)
            raise UnknownKb(named, *near) from None

    @operation("search")
    def embedding_models(self) -> list[str]:
        """Return the names of the models that the caller may embed with: the default one and those of its KBs."""
        from kb_pipeline.operations.embed_texts import DEFAULT_MODEL

        visible = (
            each for each in overview.list_overviews(self._db, self._caller.tenant) if self._caller.sees(each.kb)
        )
        used = {each.model for each in visible if each.model}
        return sorted({DEFAULT_MODEL, *used})

    @operation("search")
    def embed(
        self,
        texts: Sequence[str],
        model: str | None = None,
        *,
        as_queries: bool = False,
        dimension: int | None = None,
    ) -> EmbeddedTexts:
        """Return the vectors of texts, as the KBs of that model hold them of theirs.

        Args:
            texts: as many as 2,048.
            model: one of `embedding_models()`; the default one by default.
            as_queries: whether they are questions, to be compared with passages: some models embed the two differently.
            dimension: what is expected of the vectors.

        Raises:
            UnknownModel: the caller has no KB of that model.
            UsageError: too many texts, too long ones, or an empty one; or the model's vectors have another dimension.
        """
        from kb_pipeline.operations.embed_texts import embed_texts

        named = self._embedding_model(model)
        return embed_texts(self._readers, named, texts, as_queries=as_queries, dimension=dimension)

    @operation("search")
    def vectorize(
        self,
        markdown: str,
        title: str = "",
        *,
        model: str | None = None,
        chunking: Mapping[str, Any] | None = None,
    ) -> VectorizedText:
        """Return the chunks of a text and their vectors, by the code that a refresh runs; nothing is stored.

        Args:
            markdown: the text.
            title: of its document; a part of what is embedded of every chunk.
            model: one of `embedding_models()`; the default one by default.
            chunking: as in a KB file; its defaults by default.

        Raises:
            UnknownModel: the caller has no KB of that model.
            UsageError: the text is too long, or the chunking cannot be.
        """
        from kb_pipeline.operations.vectorize import vectorize_by

        return vectorize_by(self._readers, markdown, title, self._embedding_model(model), chunking or {})

    @operation("apply")
    def apply(self, *files: str | Path | KbText, reuse_key: bool = False, dry_run: bool = False) -> list[AppliedKb]:
        """Create or update KBs from their files; nothing is applied unless every file is valid.

        Args:
            files: paths of KB files or of folders that hold some, or their text.
            reuse_key: whether the key of a deleted tenant or KB may be taken.
            dry_run: whether to only say what would change, and what the next refresh would do because of it.

        Raises:
            InvalidSpec: a file is not valid; the error names the field, what was given and what is allowed.
            NotAllowed, UnknownModel, QuotaExceeded, KeyRetired, TenantInactive: it may not be applied.
            UsageError: a folder holds no KB file.
        """
        from kb_pipeline.operations.apply import apply_files

        return apply_files(
            self._settings, self._db, self._caller, self._orchestrator,
            [Path(file) if isinstance(file, str) else file for file in files],
            reuse_key=reuse_key, dry_run=dry_run,
        )  # fmt: skip

    @operation("apply")
    def apply_text(self, yaml: str, name: str = "the KB file", *, reuse_key: bool = False) -> AppliedKb:
        """Create or update a KB from the text of its file; see `apply`.

        Args:
            yaml: the text.
            name: what errors call it.
            reuse_key: whether the key of a deleted tenant or KB may be taken.
        """
        from kb_pipeline.operations.apply import KbText

        (applied,) = self.apply(KbText(yaml, name), reuse_key=reuse_key)
        return applied

    @operation("delete")
    def delete_kb(self, key: str | KbKey) -> DeletionReceipt:
        """Remove a KB at once, everything of it; returns the receipt, also of one that was removed before.

        Raises:
            UnknownKb: there never was one.
        """
        from kb_pipeline.operations.delete import delete_kb

        named = key if isinstance(key, KbKey) else KbKey.parse(key)
        with self._orchestrator.open_history() as history:
            return delete_kb(self._settings, self._db, history, named)

    @operation("delete")
    def deletion_plan(self, key: str | KbKey) -> DeletionPlan:
        """Return what `delete_kb` would remove, and change nothing.

        Raises:
            UnknownKb: there is none such.
        """
        from kb_pipeline.operations.delete import plan_deletion

        named = key if isinstance(key, KbKey) else KbKey.parse(key)
        with self._orchestrator.open_history() as history:
            return plan_deletion(self._settings, self._db, history, named)

    @operation("status")
    def metrics(self) -> list[Metric]:
        """Return what monitoring asks for: how the caller's KBs stand, what waits and what was used; bounded."""
        from kb_pipeline.control.runs.figures import read_figures
        from kb_pipeline.operations.metrics import as_metrics

        self._caller.require_whole_tenant()
        return list(as_metrics(read_figures(self._db, self._caller.tenant)))

    @operation("readiness")
    def observe(self, observer: Observer) -> None:
        """Have an observer told of the work that is done from now on, for whoever it is done."""
        self._readers.observer = observer

    @operation("readiness")
    def warm_up(self) -> None:
        """Load libraries, a model and the tables of one KB before somebody waits for them.

        Raises:
            KbError: that KB cannot be searched.
        """
        from kb_pipeline.operations.readiness import warm_up

        warm_up(self._db, self._readers)

    @operation("readiness")
    def dependencies(self) -> list[Dependency]:
        """Try what reading depends on, and return how each is: control plane, storage, model, daemon.

        The model that most live versions need is opened for that, so that searches answer at once from then on.
        """
        from kb_pipeline.operations.readiness import check_dependencies

        return check_dependencies(self._settings, self._db, self._readers)

    @operation("status")
    def jobs(
        self,
        tenant: str | None = None,
        *,
        kb: str | KbKey | None = None,
        states: Sequence[str] = (),
        before: tuple[datetime, str] | None = None,
        limit: int = 100,
    ) -> list[JobRecord]:
        """Return refreshes that wait, run or have ended, the newest first.

        Args:
            tenant: only that tenant's; a key's holder sees its own.
            kb: only of this KB.
            states: only those in one of these, such as `running`.
            before: `requested_at` and `id` of the last one of the page before.
            limit: the most that are returned, 1 to 1,000.

        Raises:
            UnknownTenant, UnknownKb: there is none such, or it is not the caller's.
            UsageError: there is no such state, or the limit is out of range.
        """
        named = self._caller.tenant_named(tenant)
        if named is not None:
            get_tenant(self._db, named)
        key = self.kb(kb).key if kb is not None else None
        return list_jobs(self._db, named, kb=key, kbs=self._caller.kbs, states=states, before=before, limit=limit)

    @operation("status")
    def job(self, job_id: str) -> JobRecord:
        """Return one refresh by the id of its job: its state, how far it is, what it counted.

        Raises:
            UnknownJob: there is none such, or it is another tenant's.
        """
        return self._visible_job(job_id)

    @operation("status")
    def job_events(self, job_id: str, *, after: int = 0, limit: int = 500) -> list[JobEventRecord]:
        """Return what happened in a job after the event of a number, in order.

        Args:
            job_id: the job.
            after: the number of the last event that is known already.
            limit: the most that are returned, 500 at most.

        Raises:
            UnknownJob: there is none such, or it is another tenant's.
        """
        job = self._visible_job(job_id)
        return list_events(self._db, job.kb, job.id, after, limit)

    @operation("status")
    def job_log(self, job_id: str) -> list[JobEventRecord]:
        """Return what happened in a job, without its progress: its newest 500 events, in order.

        Raises:
            UnknownJob: there is none such, or it is another tenant's.
        """
        job = self._visible_job(job_id)
        return list_log(self._db, job.kb, job.id)

    @operation("status")
    def newest_events(self, tenant: str, job_ids: Sequence[str]) -> dict[str, int]:
        """Return the number of the newest event of each of a tenant's jobs, by id: what many who wait ask at once.

        Raises:
            UnknownTenant: there is none such, or it is not the caller's.
        """
        named = self._tenant(tenant)
        get_tenant(self._db, named)
        return newest_numbers(self._db, named, job_ids)

    @operation("cancel")
    def cancel_job(self, job_id: str) -> JobRecord:
        """Cancel a job: withdraw it, or tell its run to end, without waiting; return it as it is then.

        What it fetched is kept, and the live version stays; one that has ended stays as it is.

        Raises:
            UnknownJob: there is none such, or it is another tenant's.
        """
        from kb_pipeline.operations.cancel import cancel_job

        job = self._visible_job(job_id)
        return cancel_job(self._db, self._orchestrator, job, self._settings.actor)

    def _visible_job(self, job_id: str) -> JobRecord:
        job = get_job(self._db, self._caller.tenant, job_id)
        try:
            self._caller.visible_kb(job.kb)
        except UnknownKb:
            raise UnknownJob(job_id) from None
        return job

    @cached_property
    def drafts(self) -> Drafts:
        """KBs that are being described."""
        self._caller.require_whole_tenant()  # what it will be called is not settled before it is one
        return Drafts(self._settings, self._db, self._caller)

    @cached_property
    def tenants(self) -> Tenants:
        """The customers of this installation."""
        return Tenants(self._settings, self._db, self._caller, lambda: self._orchestrator)

    @cached_property
    def plans(self) -> Plans:
        """What tenants may use."""
        return Plans(self._settings, self._db, self._caller)

    @cached_property
    def keys(self) -> ApiKeys:
        """With which API keys tenants' programs may act."""
        return ApiKeys(self._settings, self._db, self._caller)

    @cached_property
    def operator_keys(self) -> OperatorKeys:
        """With which keys the operator's programs elsewhere may act."""
        return OperatorKeys(self._settings, self._db, self._caller)

    @cached_property
    def secrets(self) -> Secrets:
        """Values that tenants' KB files name and nobody reads."""
        return Secrets(self._settings, self._db, self._caller)

    @cached_property
    def flags(self) -> Flags:
        """Choices that the operator makes while everything runs."""
        return Flags(self._settings, self._db, self._caller)

    @cached_property
    def audit(self) -> AuditLog:
        """Who changed what."""
        return AuditLog(self._settings, self._db, self._caller)

    @operation("quota")
    def quotas(self, tenant: str | None = None) -> list[limits.QuotaRecord]:
        """Return each limit of a tenant (a token's own): what is used, what is left, when it renews.

        Raises:
            UnknownTenant: there is none such, or it is not the caller's.
        """
        from kb_pipeline.operations.quotas import list_quotas

        return list(list_quotas(self._settings, self._db, self._tenant(tenant)))

    @operation("usage")
    def usage(
        self,
        tenant: str | None = None,
        *,
        kb: str | None = None,
        since: str | None = None,
        until: str | None = None,
        by: report.Grouping | None = None,
    ) -> Iterator[report.UsageRecord]:
        """Yield what was used: pages, bytes, tokens, seconds and what they cost.

        Args:
            tenant: one tenant; without it the caller's own, or all for the operator.
            kb: only KBs of that name, without the tenant's.
            since: the first day (UTC), as in 2026-11-25.
            until: the last day.
            by: sum up by this alone, instead of by KB, day, operation and model.

        Raises:
            UnknownTenant: there is none such, or it is not the caller's.
            UsageError: a day that is none.
        """
        of = self._caller.tenant_named(tenant)
        return report.list_usage(self._db, of, kb=kb, kbs=self._caller.kbs, since=since, until=until, by=by)

    @operation("extract")
    def extract(self, *files: str | Path, url: str | None = None) -> Iterator[ExtractedFile | UnextractedFile]:
        """Yield what the clean stage makes of each file, or why nothing; one bad file does not stop the others.

        Args:
            files: HTML, text or Markdown files.
            url: where the page came from, for its relative links.
        """
        from kb_pipeline.operations.extract import extract_files

        return extract_files([Path(file) for file in files], url)

    @operation("backup")
    def backup(self, directory: str | Path) -> Backup:
        """Copy control plane and data as they are at one moment, while refreshes go on.

        Args:
            directory: where to; it must not exist yet.

        Raises:
            UsageError: it exists, or another backup is being made.
        """
        from kb_pipeline.operations.backup import make_backup

        return make_backup(self._settings, self._db, Path(directory))

    @cached_property
    def _orchestrator(self) -> Orchestrator:
        from kb_pipeline.defs.orchestrator import DagsterOrchestrator

        return DagsterOrchestrator(self._settings)

    def _embedding_model(self, model: str | None) -> str:
        from kb_pipeline.errors import UnknownModel
        from kb_pipeline.operations.embed_texts import DEFAULT_MODEL

        if model in (None, DEFAULT_MODEL):
            return DEFAULT_MODEL
        if model not in (known := self.embedding_models()):
            raise UnknownModel(str(model), f"there are {', '.join(known)}")
        return str(model)

    def _tenant(self, tenant: str | None) -> str:
        from kb_pipeline.errors import UsageError

        named = self._caller.tenant_named(tenant)
        if named is None:
            raise UsageError("name the tenant")
        return named


class Kb:
    """One KB of an installation: its live version and earlier ones, and what can be done to it.

    Methods that read take `as_of`, which is a version's number, or a time for the version that was live then.
    """

    def __init__(self, home: Installation, key: KbKey) -> None:
        self._home, self.key = home, key
        self._settings, self._db = home._settings, home._db

    def __repr__(self) -> str:
        return f"Kb({str(self.key)!r})"

    @property
    def caller(self) -> Caller:
        """Who it is opened for."""
        return self._home.caller

    @operation("show")
    def file(self) -> catalog.AppliedFile:
        """Return the KB file in force: its text, with `${NAME}` as it is written, and who applied it when."""
        return catalog.file_in_force(self._db, self.key)

    @operation("status")
    def status(self) -> status.KbStatus:
        """Return the live version, what runs now and how the last refresh ended."""
        return status.describe_kb(self._db, self.key)

    @operation("search")
    def search(
        self,
        query: str,
        k: int = 5,
        *,
        mode: Mode = "hybrid",
        language: str | None = None,
        filters: Filters = None,
        offset: int = 0,
        as_of: AsOf = None,
        provenance: bool = False,
        context: int = 0,
    ) -> SearchResult:
        """Return the `k` best chunks, best first.

        Args:
            query: words or a question, in any language that the KB's model knows.
            k: 1 to 100.
            mode: `vector` ranks by meaning, `keyword` by words, `hybrid` fuses both.
            language: only documents in that language (ISO 639).
            filters: only what satisfies it, as in `{"type": "eq", "key": "source", "value": "site"}`: see docs/api.md.
            offset: how many of the best to leave out; together with `as_of` the way to the next page.
            as_of: which version; the live one by default.
            provenance: whether to say of each hit where it came from.
            context: how many chunks before and after each hit to return as well, 0 to 5.

        Raises:
            NoLiveVersion, UnknownVersion: there is nothing to search yet, or no such version.
            TenantInactive: the tenant is suspended, or being deleted.
            UsageError: an empty query, or k, language, filters, offset, context or as_of that cannot be.
            DamagedStore: the version cannot be read.
        """
        from kb_pipeline.operations.search import search_kb

        return search_kb(
            self._readers, self.key, query, k=k, mode=mode, language=language, filters=filters,
            offset=offset, as_of=_text(as_of), with_provenance=provenance, context=context,
        )  # fmt: skip

    @operation("ask")
    def answer(
        self,
        question: str,
        *,
        mode: AnswerMode = "extractive",
        k: int = 5,
        language: str | None = None,
        filters: Filters = None,
        as_of: AsOf = None,
    ) -> Answer:
        """Return the answer to a question, every sentence with the place that it is quoted from, or a refusal.

        Args:
            question: in any language that the KB's model knows.
            mode: `extractive` answers in the KB's own sentences, `generate` in those of the model that its file names.
            k: how many passages to answer from, 1 to 20.
            language: only from documents in that language (ISO 639).
            filters: only from documents that satisfy it; see `search`.
            as_of: which version; the live one by default.

        Raises:
            NoLiveVersion, UnknownVersion: there is nothing to ask yet, or no such version.
            TenantInactive: the tenant is suspended, or being deleted.
            UsageError: an empty question, or mode, k, language or as_of out of range; or no model is named.
            ModelUnavailable: the model cannot be reached, or fails.
            DamagedStore: the version cannot be read.
        """
        from kb_pipeline.answers.events import Complete

        for event in self.answer_events(question, mode=mode, k=k, language=language, filters=filters, as_of=as_of):
            if isinstance(event, Complete):
                return event.answer
        raise ValueError("an answer ends with Complete")

    @operation("ask")
    def answer_events(
        self,
        question: str,
        *,
        mode: AnswerMode = "extractive",
        k: int = 5,
        language: str | None = None,
        filters: Filters = None,
        as_of: AsOf = None,
        cancelled: threading.Event | None = None,
    ) -> Iterator[AnswerEvent]:
        """Yield what happens while a question is answered: `Started`, `Passages`, each sentence, `Complete`.

        Takes what `answer` takes, and raises what it raises, also while it is iterated.

        Args:
            question: see `answer`, as are those that follow.
            mode: see there.
            k: see there.
            language: see there.
            filters: see there.
            as_of: see there.
            cancelled: set, by any thread, it ends the answer within a second, and what a model still does for it.

        Raises:
            AnswerCancelled: it was cancelled; while it is iterated.
        """
        from kb_pipeline.operations.answer import Question, answer_events

        asked = Question(self.key, question, mode, k, language, _text(as_of), filters)
        return answer_events(self._settings, self._db, self._readers, asked, cancelled or threading.Event())

    @operation("search")
    def similar(self, name: str, k: int = 5, *, as_of: AsOf = None) -> SimilarChunks:
        """Return the best chunk of each of the `k` documents that are nearest to a chunk or a document.

        Args:
            name: the id of a chunk or of a document.
            k: 1 to 100.
            as_of: which version; the live one by default.

        Raises:
            NoLiveVersion, UnknownVersion: there is no such version.
            UsageError: nothing that is searched has the id, or k is out of range.
            DamagedStore: the version cannot be read.
        """
        from kb_pipeline.index.similar import find_similar

        return self._read(as_of, lambda version: find_similar(version, name, k))

    @operation("search")
    def vectorize(self, markdown: str, title: str = "", *, as_of: AsOf = None) -> VectorizedText:
        """Return the chunks of a text and their vectors, by the rules and with the model of a version.

        Raises:
            NoLiveVersion, UnknownVersion: there is no such version.
            UsageError: the text is too long, or the version was published before versions recorded their rules.
        """
        from kb_pipeline.operations.vectorize import vectorize_as

        manifest = self._readers.open(self.key, _text(as_of)).manifest
        return vectorize_as(self._readers, manifest, markdown, title)

    @operation("search")
    def searched_data(self, *, as_of: AsOf = None) -> tuple[int, str]:
        """Return the number of the version that a search would read, and a digest of its data.

        As long as both are the same, the same search has the same hits: see `SearchResult.data_digest`.
        """
        version = self._readers.open(self.key, _text(as_of))
        return version.number, version.data_digest

    @operation("documents")
    def documents(self, *, as_of: AsOf = None) -> Iterator[ListedDocument]:
        """Yield every document of a version, without its text."""
        from kb_pipeline.index.documents import list_documents

        return list_documents(self._readers.open(self.key, _text(as_of)))

    @operation("documents")
    def document_page(self, *, after: str = "", limit: int = 100, as_of: AsOf = None) -> DocumentPage:
        """Return some documents of a version, by id: the way through a version of many.

        Args:
            after: the id that the page before ended with.
            limit: the most to return, 1 to 1,000.
            as_of: which version; a page after the first one names the version that the first one had.

        Raises:
            NoLiveVersion, UnknownVersion: there is no such version.
            UsageError: limit is out of range.
        """
        from kb_pipeline.index.document_page import page_documents

        return self._read(as_of, lambda version: page_documents(version, after, limit))

    @operation("documents")
    def documents_by_time(
        self,
        *,
        after: str | None = None,
        before: str | None = None,
        limit: int = 20,
        newest_first: bool = True,
        as_of: AsOf = None,
    ) -> TimedPage:
        """Return some documents of a version by when their bytes were fetched, with the size of their text.

        Args:
            after: the id of the document that the page before ended with.
            before: the id of the document that the page after began with.
            limit: the most to return, 1 to 1,000.
            newest_first: whether the newest comes first, and not the oldest.
            as_of: which version.

        Raises:
            NoLiveVersion, UnknownVersion: there is no such version.
            UnknownDocument: the version has no document of the id `after` or `before`.
            UsageError: limit is out of range.
        """
        from kb_pipeline.index.documents_by_time import page_by_time

        return self._read(as_of, lambda version: page_by_time(version, after, before, limit, newest_first))

    @operation("page")
    def chunks(self, document_id: str, *, as_of: AsOf = None) -> list[StoredChunk]:
        """Return the chunks of a document, from its beginning to its end; none for a copy, which others stand for.

        Raises:
            UnknownDocument: the version has none such.
        """
        from kb_pipeline.index.document_chunks import chunks_of_document

        return self._read(as_of, lambda version: chunks_of_document(version, document_id))

    @operation("status")
    def account(self, *, as_of: AsOf = None) -> Account:
        """Return what became of every known key: documents, and what is left out by whose will; the numbers add up.

        Args:
            as_of: which version; without it, the newest refresh, whether or not it published one.

        Raises:
            NoLiveVersion, UnknownVersion: there is no such version.
        """
        from kb_pipeline.operations.account import account_of

        return account_of(self._settings, self._db, self._readers, self.key, _text(as_of))

    @operation("documents")
    def left_out(
        self, *, reason: str | None = None, source: str | None = None, as_of: AsOf = None
    ) -> Iterator[LeftOutKey]:
        """Yield every known key that has no document of its own, and why.

        Args:
            reason: only those with this reason code, such as `too_deep`.
            source: only those of this source.
            as_of: which version; without it, the newest refresh, whether or not it published one.

        Raises:
            NoLiveVersion, UnknownVersion: there is no such version.
            UsageError: there is no such reason code.
        """
        from kb_pipeline.operations.account import left_out_of

        return left_out_of(
            self._settings, self._db, self._readers, self.key, _text(as_of), reason=reason, source=source
        )

    @operation("page")
    def document(self, key: str, *, as_of: AsOf = None) -> StoredDocument:
        """Return one document: its Markdown and where it came from.

        Args:
            key: its URL, path or row id, or that of a page that redirects to it.
            as_of: which version.

        Raises:
            UnknownDocument: the version has none such.
        """
        from kb_pipeline.index.documents import read_document

        return read_document(self._readers.open(self.key, _text(as_of)), key)

    @operation("page")
    def document_by_id(self, document_id: str, *, as_of: AsOf = None) -> StoredDocument:
        """Return the document of that id, as hits and lists name it; see `document`."""
        from kb_pipeline.index.documents import read_document_by_id

        return self._read(as_of, lambda version: read_document_by_id(version, document_id))

    @operation("page")
    def find_document(self, name: str, *, as_of: AsOf = None) -> str:
        """Return the key of the document that a person means by its address, path or title, or a part of one.

        Raises:
            UnknownDocument: none is meant; it names keys that are like it.
            AmbiguousDocument: several may be meant.
        """
        from kb_pipeline.index.find_document import find_document

        return find_document(self._readers.open(self.key, _text(as_of)), name)

    @operation("page")
    def raw_bytes(self, key: str, *, as_of: AsOf = None) -> bytes:
        """Return the exact bytes that a document was made from.

        Raises:
            UnknownDocument: the version has none such.
        """
        from kb_pipeline.index.documents import read_raw_bytes

        return read_raw_bytes(self._readers.open(self.key, _text(as_of)), key)

    @operation("page")
    def raw_bytes_by_id(self, document_id: str, *, as_of: AsOf = None) -> bytes:
        """Return the exact bytes that the document of that id was made from; see `raw_bytes`."""
        from kb_pipeline.index.documents import read_raw_bytes_by_id

        return self._read(as_of, lambda version: read_raw_bytes_by_id(version, document_id))

    @operation("versions")
    def versions(self) -> list[versions.VersionRecord]:
        """Return the versions, newest first."""
        return list(versions.list_versions(self._db, self.key))

    @operation("diff")
    def diff(self, earlier: AsOf, later: AsOf) -> VersionDiff:
        """Return which documents and chunks one version added to, changed in or removed from another."""
        from kb_pipeline.index.diff import diff_versions

        before, after = (self._readers.open(self.key, _text(each)) for each in (earlier, later))
        return diff_versions(before, after)

    @operation("diff")
    def change_feed(self, earlier: AsOf, later: AsOf) -> Iterator[DocumentChange | ChunkChange]:
        """Yield every change from one version to another, to apply in order."""
        from kb_pipeline.index.diff import change_feed

        return change_feed(self.diff(earlier, later))

    @operation("diff")
    def document_changes(self, earlier: AsOf, later: AsOf = None) -> DocumentChanges:
        """Return which documents one version added to, changed in or removed from another; reads no text.

        Args:
            earlier: the version to begin with.
            later: the other one; the live one by default.

        Raises:
            NoLiveVersion, UnknownVersion: there is no such version.
            DamagedStore: a version cannot be read.
        """
        from kb_pipeline.index.diff import list_document_changes

        before, after = (self._readers.open(self.key, _text(each)) for each in (earlier, later))
        return list_document_changes(before, after)

    @operation("export")
    def export(self, directory: str | Path, *, as_of: AsOf = None) -> Export:
        """Write a version as Parquet files: documents, chunks with their vectors, and its manifest.

        Args:
            directory: where to; it must not exist yet.
            as_of: which version.

        Raises:
            NotAllowed: the caller may not write there.
            UsageError: it exists already.
        """
        from kb_pipeline.index.export import export_version

        path = self.caller.visible_path(Path(directory), self._settings)
        return export_version(self._readers.open(self.key, _text(as_of)), path)

    @operation("replay")
    def replay(self, key: str, *, as_of: AsOf = None) -> Replay:
        """Make a document's chunks again from its stored bytes by the recorded rules, and compare.

        Raises:
            UnknownDocument: the version has none such.
        """
        from kb_pipeline.operations.replay import replay_document

        return replay_document(self._readers.open(self.key, _text(as_of)), key)

    @operation("failures")
    def failures(self) -> list[failures.FailureRecord]:
        """Return what could not be turned into searchable text, at which stage and why."""
        return list(failures.list_failures(self._db, self.key))

    @operation("explain")
    def explain(self, url: str) -> Explanation:
        """Return what became of an address and why, or what would be decided about one that was never met.

        Nothing is asked for: it is told from the KB file, the stored robots.txt, links and rows.

        Args:
            url: in any spelling; or the key of a document of another kind, such as a path.

        Raises:
            UsageError: it is no key of any source.
            InvalidSpec: the KB file names a variable that has no value any more.
        """
        from kb_pipeline.operations.explain import explain_key

        return explain_key(self._settings, self._db, self.key, url)

    @operation("retry")
    def retry(self, *names: str, progress: ProgressListener | None = None) -> RetryResult:
        """Refresh the KB, asking at once for what failed or was refused; returns the refresh and what is left of it.

        Args:
            names: ids of failures, or keys (URLs) that have no document; without any, all that failed or was refused.
            progress: called with how far the refresh is.

        Raises:
            UsageError: a name is neither a failure's id nor a known key.
        """
        from kb_pipeline.operations.retry import retry_failures

        return retry_failures(self._settings, self._db, self.key, names, progress)

    @operation("build")
    def refresh(self, progress: ProgressListener | None = None, *, force: bool = False) -> RefreshResult:
        """Refresh the KB through Dagster, publish what passes its checks, and return how it ended.

        Args:
            progress: called five times a second with how far it is.
            force: publish even what a check would hold for approval; takes more rights than a refresh.

        Raises:
            TenantInactive, LeaseHeld, InvalidSpec: nothing was started.
        """
        from kb_pipeline.operations.launch import run_refresh

        self._may_start(force=force)
        return run_refresh(self._settings, self._db, self.key, progress, force=force)

    @operation("build")
    def request_refresh(self, *, force: bool = False, retry: bool = False) -> requests.RequestRecord:
        """Ask for a refresh, which the daemon starts in its tenant's turn; returns the request.

        Its id is that of the job that it is from now on; one that waits already with the same options is returned.

        Args:
            force: publish even what a check would hold for approval; takes more rights than a refresh.
            retry: request pages that failed again, however often and recently they did.

        Raises:
            TenantInactive, InvalidSpec: nothing was asked for.
        """
        self._may_start(force=force)
        options = ["force"] * force + ["retry"] * retry
        return requests.request_run(self._db, self.key, options, self._settings.actor)

    @operation("build")
    def start_job(
        self, *, force: bool = False, retry: bool = False, once: RequestOnce | None = None
    ) -> tuple[str, bool]:
        """Ask for a refresh as `request_refresh` does, once for all requests with the same key.

        Args:
            force: publish even what a check would hold for approval; takes more rights than a refresh.
            retry: request pages that failed again, however often and recently they did.
            once: what tells this request from others, if its client may send it again.

        Returns:
            The id of the job, and whether an earlier request with the same key had asked for it.

        Raises:
            TenantInactive, InvalidSpec: nothing was asked for.
            KeyReused: another request had the same key.
        """
        self._may_start(force=force)
        options = ["force"] * force + ["retry"] * retry
        return requests.request_once(self._db, self.key, options, self._settings.actor, once)

    @operation("status")
    def newest_job(self) -> JobRecord | None:
        """Return the newest job: the refresh that runs or waits, or else the last one; None before the first."""
        return newest_job(self._db, self.key)

    @operation("logs")
    def logs(self, run_id: str | None = None, *, follow: bool = False) -> Iterator[LogLine]:
        """Yield what a run did: its stages, checks, warnings and errors.

        Args:
            run_id: which run; without it the newest.
            follow: whether to go on until the run has ended.

        Raises:
            UnknownRun: the KB had none such.
        """
        from kb_pipeline.operations.run_log import read_lines, run_named

        named = run_named(self._db, self.key, run_id)
        with self._home._orchestrator.open_log(named) as log:
            yield from read_lines(log, follow=follow)

    @operation("cancel")
    def cancel(self) -> Cancellation:
        """Stop the refreshes that run or wait; what they fetched is kept, and the live version stays."""
        from kb_pipeline.operations.cancel import cancel_refreshes

        return cancel_refreshes(self._db, self._home._orchestrator, self.key)

    @operation("rollback")
    def rollback(self, version: int) -> Rollback:
        """Make an earlier version live again: nothing is fetched, embedded or copied.

        Raises:
            UnknownVersion: it is not kept any more, or never was published.
            UsageError: it is live already.
            LeaseHeld: a run writes the KB and would publish over it.
        """
        from kb_pipeline.operations.rollback import rollback_kb

        return rollback_kb(self._settings, self._db, self.key, version)

    @operation("approve")
    def approve(self, version: int) -> Approval:
        """Publish a version that a check held.

        Raises:
            UnknownVersion: there is none such.
            UsageError: it does not wait for approval.
            LeaseHeld: a run writes the KB.
            GateFailed: its data is not what it was when it was built.
        """
        from kb_pipeline.operations.approve import approve_version

        return approve_version(self._settings, self._db, self.key, version)

    @operation("erase")
    def erase(self, key: str) -> ErasureReceipt:
        """Remove a document from every kept version, raw bytes, caches and indexes for good; returns the receipt.

        Raises:
            UnknownDocument: no kept version has it.
            LeaseHeld: a run writes the KB.
        """
        from kb_pipeline.operations.erase_document import erase_document

        return erase_document(self._settings, self._db, self.key, key)

    @operation("erase")
    def erasure_plan(self, key: str) -> ErasurePlan:
        """Return what `erase` would remove, and change nothing.

        Raises:
            UnknownDocument: no kept version has it.
        """
        from kb_pipeline.operations.plan_erasure import plan_erasure

        return plan_erasure(self._settings, self._db, self.key, key)

    @operation("erase")
    def lift_erasure(self, key: str) -> ErasureReceipt:
        """Let an erased document be fetched again; returns the receipt.

        Raises:
            UnknownDocument: it was not erased.
        """
        from kb_pipeline.operations.erase_document import lift_erasure

        return lift_erasure(self._settings, self._db, self.key, key)

    @property
    def _readers(self) -> Readers:
        return self._home._readers

    def _read(self, as_of: AsOf, ask: Callable[[VersionReader], _Result]) -> _Result:
        return self._readers.read(self.key, _text(as_of), ask)[1]

    def _may_start(self, *, force: bool) -> None:
        if force:
            self.caller.require("build --force")  # it lets through what would wait for approval
        # An unknown KB or a missing variable is said before anything starts.
        catalog.get_kb(self._db, self.key).read_spec(self._settings)


def open_installation(
    home: str | Path | None = None, *, settings: Settings | None = None, api_key: str | None = None
) -> Installation:
    """Open an installation; see `kb_pipeline.open`."""
    chosen = settings or load_settings(home)
    db = Database(chosen.database_url)
    try:
        authenticator = Authenticator(chosen, db)
        return Installation(chosen, db, authenticator.identify(api_key), authenticator, RequestRates(db))
    except BaseException:
        db.dispose()
        raise


def require_operator(operation_name: str, api_key: str | None, settings: Settings | None = None) -> None:
    """Raise NotAllowed for what no key may do, KeyRefused for a key that is not valid; without a key, do nothing."""
    if api_key is not None:
        with open_installation(settings=settings, api_key=api_key) as home:
            home.caller.require(operation_name)


def restore(
    directory: str | Path,
    home: str | Path | None = None,
    *,
    settings: Settings | None = None,
    api_key: str | None = None,
) -> Restoration:
    """Put a backup into an empty home, every checksum verified before, every live version searched once.

    Args:
        directory: the backup.
        home: where to; without it the home that the settings name.
        settings: instead of the environment's.
        api_key: of the caller; restoring is the operator's, so that any key is refused.

    Raises:
        NotAllowed: a key was given.
        UsageError: the home is not empty.
        DamagedBackup: a file is missing or not what was written.
    """
    from kb_pipeline.operations.restore import restore_backup

    chosen = settings or load_settings(home)
    require_operator("restore", api_key, chosen)
    return restore_backup(chosen, Path(directory))


def _text(as_of: AsOf) -> str | None:
    if isinstance(as_of, datetime):
        return as_of.isoformat()
    return None if as_of is None else str(as_of)
