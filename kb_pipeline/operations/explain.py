"""Explains what became of an address in a KB and why, or what would be decided about one that was never met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import catalog
from kb_pipeline.control.kbs.erasures import erased_ids
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.errors import UsageError
from kb_pipeline.fetch.journal_state import Checks
from kb_pipeline.fetch.registry import SOURCE_TYPES
from kb_pipeline.fetch.revisit import pause_end
from kb_pipeline.fetch.source import ERASED, ERASED_MESSAGE, Decision, KeyView, Traces
from kb_pipeline.model import KbKey, Record, document_id
from kb_pipeline.operations.left_out_reasons import NOT_CLEANED, UNDECIDED, cause_of
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec, as_written
from kb_pipeline.spec.sources import Source
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES
from kb_pipeline.store.table import sql_in

_LINKING = 10
"""How many of the pages that link to a key are named."""
_MAX_CHARS = 4096
_MOST_HOPS = 10


@dataclass(frozen=True, slots=True)
class LastAnswer(Record):
    """What was last recorded of a key."""

    outcome: str | None
    """fetched, redirected, rejected or failed."""
    reason: str | None
    message: str | None
    status: int | None
    """Of the HTTP response."""
    content_type: str | None
    redirect_to: str | None
    fetched_at: datetime | None
    """When the bytes came that are kept; None without any."""
    failures: int | None
    """Refreshes in a row in which asking for it failed."""
    tried_at: datetime | None
    """The last of them."""


@dataclass(frozen=True, slots=True)
class DocumentFate(Record):
    """What cleaning made of a key's bytes."""

    outcome: str
    """document, rejected or failed."""
    reason: str | None
    message: str | None
    title: str | None
    duplicate_of: str | None
    """The key of the document that has the same text and stands for it."""
    left_out: str | None
    """Why it is no document of its own, though it is one by its text."""
    canonical_url: str | None
    """What it declares as its canonical address."""


@dataclass(frozen=True, slots=True)
class SourceExplanation(Record):
    """What one source knows of a key, and decides about it."""

    source: str
    type: str
    key: str
    """In the source's own spelling."""
    is_known: bool
    """Whether an earlier refresh met it."""
    verdict: str
    """In a sentence."""
    remedy: str | None
    decisions: tuple[Decision, ...]
    chain: tuple[str, ...]
    """A shortest chain of links from a start to it, both included."""
    linked_from: tuple[str, ...]
    """The first of the pages that link to it."""
    linked_from_count: int
    depth: int | None
    last: LastAnswer | None
    """None for what was never met."""
    document: DocumentFate | None
    """None without bytes."""
    next_ask: str
    """When it is asked for next, in words."""


@dataclass(frozen=True, slots=True)
class Explanation(Record):
    """All that is known of an address, source by source; nothing was asked for to find it out."""

    kb: KbKey
    given: str
    dropped: tuple[str, ...]
    """Parts of what was given that name no page: a fragment, parameters of sessions and trackers."""
    sources: tuple[SourceExplanation, ...]
    """Sources that know it first."""


@dataclass(frozen=True, slots=True)
class _Page(LastAnswer):
    page_id: str
    key: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class _Key:
    key: str


def explain_key(settings: Settings, db: Database, key: KbKey, given: str) -> Explanation:
    """Return what is known of an address, or a key of another kind, in each source of the KB file.

    Raises:
        UsageError: it is empty, too long, or no key of any source.
        InvalidSpec, SecretUnreadable: the KB file names a variable that has no value any more.
        TenantInactive: the tenant is suspended, or being deleted.
    """
    require_active(db, key.tenant)
    if not given.strip() or len(given) > _MAX_CHARS:
        raise UsageError(f"give an address of 1 to {_MAX_CHARS} characters, such as https://docs.example.com/guide")
    record = catalog.get_kb(db, key)
    spec = record.read_spec(settings)
    erased = frozenset(erased_ids(db, key, [source.name for source in spec.sources]))
    explainer = _Explainer(settings, spec, record.yaml, KbStore(KbPaths(settings.data_dir, key)), erased)
    found = [explainer.of(number, spelled) for number, spelled in explainer.spellings(given)]
    if not found:
        raise UsageError(f"{key}: {given!r} is no http(s) address without a password, and no key of another source")
    ordered = sorted(found, key=lambda each: not each.is_known)
    return Explanation(key, given, tuple(_dropped(given, ordered[0].key)), tuple(ordered))


class _Explainer:
    """Explains keys of one KB.

    Args:
        settings: of the installation.
        spec: the KB file.
        yaml: its text.
        store: what is stored of the KB.
        erased: ids of the documents that no refresh may fetch.
    """

    def __init__(self, settings: Settings, spec: KbSpec, yaml: str, store: KbStore, erased: frozenset[str]) -> None:
        self._settings, self._spec, self._yaml = settings, spec, yaml
        self._store, self._erased = store, erased

    def spellings(self, given: str) -> Iterator[tuple[int, str]]:
        """Yield the number of each source that may have the key, with its spelling of it."""
        for number, source in enumerate(self._spec.sources):
            if (spelled := SOURCE_TYPES[source.type].spell(given)) is not None:
                yield number, spelled

    def of(self, number: int, key: str) -> SourceExplanation:
        """Return what a source of the KB file knows of a key, and decides about it."""
        source = self._spec.sources[number]
        page = self._page(source.name, key)
        view = self._view(source, key, page)
        decisions = tuple(self._with_line(number, each) for each in (*self._erasure(source.name, key), *view.decisions))
        document = self._document(page)
        verdict, remedy = self._verdict(source, page, document, decisions)
        return SourceExplanation(
            source=source.name,
            type=source.type,
            key=key,
            is_known=page is not None,
            verdict=verdict,
            remedy=remedy,
            decisions=decisions,
            chain=view.chain,
            linked_from=view.linked_from[:_LINKING],
            linked_from_count=len(view.linked_from),
            depth=view.depth,
            last=self._last(page),
            document=document,
            next_ask=self._next_ask(source, page, decisions),
        )

    def _view(self, source: Source, key: str, page: _Page | None) -> KeyView:
        has_bytes = page is not None and page.sha256 is not None
        notes = self._store.paths.site_notes(source.name)
        traces = Traces(notes, partial(self._redirect_of, source.name), self._kept(source.name), has_bytes)
        return SOURCE_TYPES[source.type].explain(source, self._settings, key, traces)

    def _kept(self, source: str) -> int:
        where = f"{sql_in('source', [source])} AND sha256 IS NOT NULL"
        return self._store.tables.open(PAGES).count(where) if self._store.has_table(PAGES) else 0

    def _redirect_of(self, source: str, key: str) -> str | None:
        """Return where a key of a source redirected to when it was last asked for."""
        page = self._page(source, key)
        return page.redirect_to if page is not None and page.outcome == "redirected" else None

    def _page(self, source: str, key: str) -> _Page | None:
        if not self._store.has_table(PAGES):
            return None
        where = sql_in("page_id", [document_id(source, key)])
        return next(iter(self._store.tables.open(PAGES).rows(_Page, where, limit=1)), None)

    def _document(self, page: _Page | None) -> DocumentFate | None:
        if page is None or page.sha256 is None or not self._store.has_table(DOCUMENTS):
            return None
        documents = self._store.tables.open(DOCUMENTS)
        rows = documents.rows(DocumentFate, sql_in("document_id", [page.page_id]), limit=1)
        if not rows:
            return None
        (row,) = rows
        twin = documents.rows(_Key, sql_in("document_id", [row.duplicate_of]), limit=1) if row.duplicate_of else []
        return replace(row, message=self._told(row.message), duplicate_of=twin[0].key if twin else row.duplicate_of)

    def _last(self, page: _Page | None) -> LastAnswer | None:
        if page is None:
            return None
        told = {each.name: getattr(page, each.name) for each in fields(LastAnswer)}
        return LastAnswer(**told | {"message": self._told(page.message)})

    def _erasure(self, source: str, key: str) -> Iterator[Decision]:
        if document_id(source, key) in self._erased:
            yield Decision("erasure", False, ERASED_MESSAGE, ERASED)

    def _with_line(self, number: int, decision: Decision) -> Decision:
        """Add what the KB file says, which has `${NAME}` where a variable gives a value."""
        line = decision.line or (as_written(self._yaml, number, decision.place) if decision.place else None)
        return replace(decision, said=self._told(decision.said) or "", line=line)

    def _told(self, said: str | None) -> str | None:
        return None if said is None else str(self._spec.redact(said))

    def _verdict(
        self, source: Source, page: _Page | None, document: DocumentFate | None, decisions: Sequence[Decision]
    ) -> tuple[str, str | None]:
        """Return what became of the key, or would, in a sentence; and what would help."""
        if page is None:
            return _would_be(decisions)
        if document is not None and document.outcome == "document":
            against = next((each for each in decisions if each.allows is False), None)
            ends = f"; {against.rule} leaves it out from the next refresh on: {against.said}" if against else ""
            return _as_document(document, page) + ends, None
        if page.sha256 is not None:
            stage, reason, message = "clean", NOT_CLEANED, "no refresh has read its bytes yet"
            if document is not None:
                reason, message = document.reason or NOT_CLEANED, document.message or ""
        elif page.outcome == "redirected":
            return f"another name of {self._end_of(source.name, page)}, to which it redirects", None
        else:
            stage, reason, message = "fetch", page.reason or UNDECIDED, self._told(page.message) or ""
        return f"left out ({reason}): {message}", cause_of(stage, reason).remedy

    def _end_of(self, source: str, page: _Page) -> str:
        """Return where redirects lead, and whether that gave a page."""
        end, hops = page, 0
        while end.outcome == "redirected" and end.redirect_to and hops < _MOST_HOPS:
            target, hops = self._page(source, end.redirect_to), hops + 1
            if target is None:
                return f"{end.redirect_to}, which is not known"
            end = target
        return end.key if end.sha256 else f"{end.key}, which gave no page ({end.reason or end.outcome})"

    def _next_ask(self, source: Source, page: _Page | None, decisions: Sequence[Decision]) -> str:
        if any(each.allows is False for each in decisions):
            return "not asked for: its rules decide again at every refresh, without a request"
        if page is None:
            return "as soon as a page or a sitemap that is read names it"
        if page.outcome == "failed":
            return _after(pause_end(page.failures or 0, page.tried_at))
        if page.sha256 is not None:
            return "the next refresh in which it is due"
        checks = Checks(self._store.paths.checks(source.name)).read()
        for asked_at, refusals in checks.filter(checks["key"] == page.key).select("checked_at", "refusals").iter_rows():
            return _after(pause_end(refusals or 0, asked_at), "; earlier where few others wait")
        return _after(None)


def _would_be(decisions: Sequence[Decision]) -> tuple[str, str | None]:
    """Return what would become of a key that nobody has met."""
    against = next((each for each in decisions if each.allows is False), None)
    if against is None:
        return "never met; nothing that is known speaks against it", "link to it, or name it in start_urls or a sitemap"
    remedy = cause_of("fetch", against.reason).remedy if against.reason else None
    reason = f" ({against.reason})" if against.reason else ""
    return f"never met; {against.rule} would leave it out{reason}: {against.said}", remedy


def _as_document(document: DocumentFate, page: _Page) -> str:
    if document.duplicate_of:
        return f"another name of {document.duplicate_of}, which has the same text"
    if document.left_out:
        return f"left out ({document.left_out}): {document.message or 'it is no document of its own'}"
    if page.outcome == "failed" or document.reason:
        return "a document, kept as it was: what came since could not be used"
    return "a document"


def _after(moment: datetime | None, unless: str = "") -> str:
    if moment is None or moment <= datetime.now(UTC):
        return "the next refresh"
    return f"not before {moment:%Y-%m-%d %H:%M} UTC{unless}; kb retry asks at once"


def _dropped(given: str, key: str) -> Iterator[str]:
    """Yield the fragment and the parameters that are no part of the key."""
    address, _, fragment = given.strip().partition("#")
    kept = {pair.partition("=")[0] for pair in key.partition("?")[2].split("&")}
    for pair in address.partition("?")[2].split("&"):
        if pair and pair.partition("=")[0] not in kept:
            yield pair
    if fragment:
        yield f"#{fragment}"
