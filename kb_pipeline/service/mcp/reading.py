"""The tools that read: which KBs there are, search, answers, documents, what is like something, what changed, jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Annotated, Any, Literal

from pydantic import Field

from kb_pipeline.answers.result import Answer, AnswerSentence
from kb_pipeline.errors import UnknownVersion, UsageError
from kb_pipeline.index.documents import HitProvenance
from kb_pipeline.index.filters import Filter
from kb_pipeline.index.search import Hit, Mode
from kb_pipeline.installation import Installation, Kb
from kb_pipeline.service.api.answers import MAX_PASSAGES, MAX_QUESTION_CHARS
from kb_pipeline.service.api.search import MAX_QUERY_CHARS
from kb_pipeline.service.cursors import read_cursor, write_cursor
from kb_pipeline.service.mcp.budget import fit, largest
from kb_pipeline.service.mcp.results import (
    Answered,
    Change,
    Changes,
    Citation,
    DocumentText,
    JobShown,
    Kbs,
    KbShown,
    Passage,
    Passages,
    Sentence,
)
from kb_pipeline.service.mcp.tools import Bounded, KbName, Paged, Tool, VersionNumber, find_document, kb_named
from kb_pipeline.service.names import kb_id
from kb_pipeline.service.problems import VersionGone
from kb_pipeline.service.search_pages import DECIDING, search_page

_MOST_ROWS = 1000
"""Of KBs or changes that are weighed for one result: more never fit."""
_MOST_AT_ONCE = 20
Language = Annotated[str | None, Field(pattern="^[a-z]{2,3}$", description="Only documents in it: ISO 639, as in en.")]
AsOf = Annotated[
    str | int | None,
    Field(description="An earlier version: its number, or a time (ISO 8601) for the one that was live then."),
]
Filters = Annotated[
    Filter | None,
    Field(
        description="Only documents that satisfy it: a comparison of an attribute (document_id, key, url, "
        "canonical_url, source, title, headings, language, media_type, fetched_at, first_seen_at, published, modified "
        "or metadata.NAME), or several, joined by and, or, not; as in "
        '{"type": "and", "filters": [{"type": "eq", "key": "language", "value": "en"}, '
        '{"type": "gte", "key": "fetched_at", "value": "2026-01-31"}]}.'
    ),
]


class ListKbs(Paged):
    """What list_kbs takes."""


class SearchKb(Paged):
    """What search_kb takes."""

    kb: KbName
    query: str = Field(
        min_length=1,
        max_length=MAX_QUERY_CHARS,
        description="Words or a question, in any language that the KB's model knows.",
    )
    k: int = Field(5, ge=1, le=_MOST_AT_ONCE, description="How many passages.")
    mode: Mode = Field("hybrid", description="vector ranks by meaning, keyword by words, hybrid by both.")
    language: Language = None
    filters: Filters = None
    as_of: AsOf = None
    detail: Literal["low", "full"] = Field(
        "full", description="full gives whole chunks; low the sentences that answer, at a fraction of the tokens."
    )


class AskKb(Bounded):
    """What ask_kb takes."""

    kb: KbName
    question: str = Field(
        min_length=1,
        max_length=MAX_QUESTION_CHARS,
        description="A whole question, in any language that the KB's model knows.",
    )
    k: int = Field(5, ge=1, le=MAX_PASSAGES, description="From how many passages.")
    language: Language = None
    filters: Filters = None
    as_of: AsOf = None


class ReadDocument(Bounded):
    """What read_document takes."""

    kb: KbName
    document: str = Field(
        min_length=1, max_length=4000, description="The document's id as a hit has it, or its URL or key."
    )
    start: int = Field(0, alias="from", ge=0, description="The character to begin at: `next` of the result before.")
    version: VersionNumber = None


class FindSimilar(Bounded):
    """What find_similar takes."""

    kb: KbName
    chunk: str | None = Field(None, max_length=64, description="Id of a chunk, as a hit has it; or else:")
    document: str | None = Field(None, max_length=64, description="Id of a document, as a hit has it.")
    k: int = Field(5, ge=1, le=_MOST_AT_ONCE, description="How many documents.")
    version: VersionNumber = None


class KbChanges(Paged):
    """What kb_changes takes."""

    kb: KbName
    since_version: int = Field(ge=1, le=2**31 - 1, description="The version to compare with the live one.")


class JobStatus(Bounded):
    """What job_status takes."""

    job: str = Field(min_length=1, max_length=64, description="Id of the job, as the tool that asked for it gave it.")


def list_kbs(home: Installation, asked: ListKbs) -> Kbs:
    """Answer list_kbs: by id, and going on after an id whatever is added meanwhile."""
    after = "" if asked.cursor is None else read_cursor(asked.cursor)[1]
    found = sorted(
        (KbShown.model_validate(each) for each in home.overview() if kb_id(each.kb) > after),
        key=lambda each: each.kb,
    )

    def make(n: int) -> Kbs:
        rest = len(found) - n
        return Kbs(
            kbs=found[:n], left_out=rest, cursor=write_cursor(0, found[n - 1].kb if n else after) if rest else None
        )

    return fit(make, min(len(found), _MOST_ROWS), asked.max_tokens)


def search_kb(home: Installation, asked: SearchKb) -> Passages:
    """Answer search_kb; a cursor stays with the version that the first result was found in."""
    kb = kb_named(home, asked.kb)
    page = search_page(
        kb, asked.model_dump(include=DECIDING), asked.k, cursor=asked.cursor, as_of=asked.as_of, provenance=True
    )
    found = page.found
    passages = [
        _passage(kb, found.version, hit, origin) for hit, origin in zip(found, found.provenance or [], strict=True)
    ]
    if asked.detail == "low":
        for passage, chosen in zip(passages, found.passages, strict=True):
            passage.text_is_cut = len(chosen.text) < len(passage.text)
            passage.text = chosen.text

    return _fit_passages(kb, found.version, passages, asked.max_tokens, page.cursor_after)


def ask_kb(home: Installation, asked: AskKb) -> Answered:
    """Answer ask_kb: in the KB's own sentences, or with a refusal."""
    kb = kb_named(home, asked.kb)
    found = kb.answer(
        asked.question, k=asked.k, language=asked.language, as_of=asked.as_of,
        filters=asked.filters.model_dump() if asked.filters else None,
    )  # fmt: skip
    urls = {
        document: kb.document_by_id(document, as_of=found.version).provenance.url
        for document in {each.document_id for each in found.citations}
    }
    sentences = _numbered(found, urls)

    def make(n: int) -> Answered:
        return Answered(
            kb=kb_id(kb.key), version=found.version, verdict=found.verdict, score=found.score,
            threshold=found.threshold, sentences=sentences[:n], left_out=len(sentences) - n,
        )  # fmt: skip

    return fit(make, len(sentences), asked.max_tokens)


def find_similar(home: Installation, asked: FindSimilar) -> Passages:
    """Answer find_similar."""
    names = [each for each in (asked.chunk, asked.document) if each is not None]
    if len(names) != 1:
        raise UsageError("find_similar: give the id of a chunk or that of a document, one of the two")
    kb = kb_named(home, asked.kb)
    found = kb.similar(names[0], asked.k, as_of=asked.version)
    passages = [
        _passage(kb, found.version, hit, origin) for hit, origin in zip(found.hits, found.provenance, strict=True)
    ]
    return _fit_passages(kb, found.version, passages, asked.max_tokens, None)


def read_document(home: Installation, asked: ReadDocument) -> DocumentText:
    """Answer read_document: as much as fits, to the end of a paragraph or line where one is near."""
    kb = kb_named(home, asked.kb)
    stored = find_document(kb, asked.document, asked.version)
    text, start = stored.markdown, asked.start
    if start > len(text):
        raise UsageError(f"from is {start}; the document has {len(text)} characters")

    def make(n: int) -> DocumentText:
        end = _near_end(text, start, start + n)
        return DocumentText(
            kb=kb_id(kb.key), version=stored.version, document=stored.document_id, key=stored.key,
            url=stored.provenance.url, title=stored.title, language=stored.language,
            fetched_at=stored.provenance.fetched_at, start=start, end=end, total=len(text),
            next=end if end < len(text) else None, text=text[start:end],
        )  # fmt: skip

    return fit(make, len(text) - start, asked.max_tokens)


def kb_changes(home: Installation, asked: KbChanges) -> Changes:
    """Answer kb_changes; a cursor stays with the version that the first result compared."""
    kb = kb_named(home, asked.kb)
    later, offset = (None, 0) if asked.cursor is None else _read_offset(asked.cursor)
    try:
        found = kb.document_changes(asked.since_version, later)
    except UnknownVersion as error:
        raise VersionGone(error) if asked.cursor and error.version == str(later) else error from None
    counts = Counter(each.change for each in found.changes)
    rows = found.changes[offset : offset + _MOST_ROWS]

    def make(n: int) -> Changes:
        rest = len(found.changes) - offset - n
        return Changes(
            kb=kb_id(kb.key), since_version=found.before, version=found.after,
            added=counts["added"], changed=counts["changed"], removed=counts["removed"],
            changes=[Change.model_validate(each) for each in rows[:n]], left_out=rest,
            cursor=write_cursor(found.after, str(offset + n)) if rest else None,
        )  # fmt: skip

    return fit(make, len(rows), asked.max_tokens)


def job_status(home: Installation, asked: JobStatus) -> JobShown:
    """Answer job_status."""
    job = home.job(asked.job)
    messages = list(dict.fromkeys([*(job.message or "").splitlines(), *job.warnings]))

    def make(n: int) -> JobShown:
        return JobShown(
            job=job.id, kb=kb_id(job.kb), state=job.state, has_ended=job.has_ended, stage=job.stage,
            percent=job.percent, eta_s=job.eta_s, version=job.version, requested_at=job.requested_at,
            started_at=job.started_at, ended_at=job.ended_at, counts=job.stats.as_json(), messages=messages[:n],
            left_out=len(messages) - n,
        )  # fmt: skip

    return fit(make, len(messages), asked.max_tokens)


def _fit_passages(
    kb: Kb, version: int, passages: Sequence[Passage], max_tokens: int, cursor_after: Callable[[int], str] | None
) -> Passages:
    """Return the passages that fit; of the first one a part, if it does not fit as a whole.

    Args:
        kb: the KB.
        version: that they are of.
        passages: all that there are.
        max_tokens: what they may take.
        cursor_after: gives the cursor that leads on after some of them; None where none does.
    """

    def make(some: Sequence[Passage]) -> Passages:
        rest = len(passages) - len(some)
        cursor = cursor_after(len(some)) if rest and cursor_after is not None else None
        return Passages(kb=kb_id(kb.key), version=version, hits=list(some), left_out=rest, cursor=cursor)

    if (found := largest(lambda n: make(passages[:n]), len(passages), max_tokens)) is not None:
        return found
    first = passages[0]
    return fit(
        lambda n: make([first.model_copy(update={"text": first.text[:n], "text_is_cut": True})]),
        len(first.text) - 1,
        max_tokens,
    )


def _numbered(answer: Answer, urls: Mapping[str, str]) -> list[Sentence]:
    """Return the sentences with their citations, which are numbered from the first sentence on."""
    numbers = count(1)

    def cited(sentence: AnswerSentence) -> list[Citation]:
        return [
            Citation(
                number=next(numbers), document=each.document_id, version=each.version, chunk=each.chunk_id,
                start=each.start, end=each.end, url=urls[each.document_id], title=each.title,
            )
            for each in sentence.citations
        ]  # fmt: skip

    return [Sentence(text=each.text, citations=cited(each)) for each in answer.sentences]


def _passage(kb: Kb, version: int, hit: Hit, origin: HitProvenance) -> Passage:
    return Passage(
        kb=kb_id(kb.key), version=version, document=hit.document_id, chunk=hit.chunk_id, start=hit.start, end=hit.end,
        url=origin.document.url, title=hit.title, headings=list(hit.headings), language=hit.language, score=hit.score,
        text=hit.text, text_is_cut=False,
    )  # fmt: skip


def _read_offset(cursor: str) -> tuple[int, int]:
    version, after = read_cursor(cursor)
    if not after.isdecimal():
        raise UsageError("the cursor is not one that this tool gave; leave it out to begin anew")
    return version, int(after)


def _near_end(text: str, start: int, end: int) -> int:
    """Return where to stop: after the last paragraph, line or word that ends in the second half, else at `end`."""
    if end >= len(text):
        return len(text)
    for separator in ("\n\n", "\n", " "):
        found = text.rfind(separator, start + (end - start) // 2, end)
        if found > start:
            return found + len(separator)
    return end


READING: tuple[Tool[Any], ...] = (
    Tool(
        "list_kbs", "List knowledge bases",
        "List the knowledge bases that you may read, with their live version and how they stand. Begin here.",
        "list", ListKbs, Kbs, list_kbs,
    ),
    Tool(
        "search_kb", "Search a knowledge base",
        "Search one knowledge base by meaning and by words. Returns passages, best first, each with what is needed to "
        "cite it (url, document, version, start, end) and to read on (read_document with from=start).",
        "search", SearchKb, Passages, search_kb,
    ),
    Tool(
        "ask_kb", "Ask a knowledge base",
        "Answer a question in one knowledge base's own sentences, each with a verified citation (url, document, "
        "version, chunk, start, end); or say that it has no answer: then do not answer from elsewhere as if it had.",
        "ask", AskKb, Answered, ask_kb,
    ),
    Tool(
        "read_document", "Read a document",
        "Read a document of a knowledge base as Markdown, in parts of at most max_tokens; go on with from=next.",
        "page", ReadDocument, DocumentText, read_document,
    ),
    Tool(
        "find_similar", "Find similar documents",
        "Find the documents that are nearest in meaning to a chunk or to a document, each with its best passage.",
        "search", FindSimilar, Passages, find_similar,
    ),
    Tool(
        "kb_changes", "List what changed",
        "List the documents that were added, changed or removed since an earlier version of a knowledge base.",
        "diff", KbChanges, Changes, kb_changes,
    ),
    Tool(
        "job_status", "Show a job",
        "Tell how far a refresh is that refresh_kb or retry_failures asked for: state, stage, per cent, counts, "
        "warnings, and how it ended.",
        "status", JobStatus, JobShown, job_status,
    ),
)  # fmt: skip
