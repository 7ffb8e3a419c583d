"""Has a KB's model answer from the passages that were found, and verifies every sentence as it comes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kb_pipeline.answers.draft import DraftReader, DraftSentence
from kb_pipeline.answers.model_client import CircuitBreaker, Endpoint, Spent, stream_text
from kb_pipeline.answers.prompt import build_messages, within_budget
from kb_pipeline.answers.result import AnswerSentence, Citation, Usage
from kb_pipeline.answers.verify import Finding, Located, check_quote
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import catalog
from kb_pipeline.control.metering import ledger
from kb_pipeline.errors import ModelUnavailable, UsageError
from kb_pipeline.fetch.web.http.ssrf_guard import refusal, url_refusal
from kb_pipeline.index.search import Hit
from kb_pipeline.model import KbKey
from kb_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class AnsweringModel:
    """The model that a KB's file names, and what is done with sentences of it that nothing supports."""

    endpoint: Endpoint
    drops_unsupported: bool


@dataclass(slots=True)
class Generated:
    """What has become of a model's answer so far."""

    sentences: list[AnswerSentence] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    dropped: int = 0
    """Sentences that nothing supports and that were left out."""
    is_refusal: bool = False
    usage: Usage = field(default_factory=Usage)


def model_of(settings: Settings, db: Database, key: KbKey) -> AnsweringModel:
    """Return the model that answers for a KB.

    Raises:
        UsageError: its file names none, or an address that may not be asked.
        InvalidSpec: the file names a variable that has no value any more.
    """
    named = catalog.get_kb(db, key).read_spec(settings).answers
    if named is None:
        raise UsageError(
            f"{key}: its KB file names no model that answers (section answers); ask without --mode generate"
        )
    if why := url_refusal(named.url):
        raise UsageError(f"{key}: answers.url cannot be asked: {why}")
    endpoint = Endpoint(named.url, named.model, named.api_key, named.max_tokens, named.timeout)
    return AnsweringModel(endpoint, named.unsupported == "drop")


def generate(
    settings: Settings,
    db: Database,
    key: KbKey,
    model: AnsweringModel,
    question: str,
    version: int,
    passages: Sequence[Hit],
    breaker: CircuitBreaker,
    cancelled: threading.Event,
    result: Generated,
) -> Iterator[AnswerSentence]:
    """Yield the sentences of a model's answer, each verified; fills in `result` on the way.

    What it took is written to the usage ledger however it ends.

    Raises:
        ModelUnavailable: the endpoint fails, or has failed so often that it is not asked for a while.
        AnswerCancelled: it was cancelled.
    """
    breaker.admit(model.endpoint.model)
    given, spent = within_budget(passages), Spent()
    texts = [hit.text for hit in given]
    written = 0
    try:
        for draft in _drafts(settings, model.endpoint, question, given, cancelled, spent, result):
            if draft.refuses and not any(each.supported for each in result.sentences):
                result.is_refusal = True
                if draft.cites:
                    result.findings.append(Finding("cited_refusal", written, draft.cites[0].number))
                return
            sentence = _verified(draft, written, texts, given, version, result.findings)
            written += 1
            if sentence.supported or not model.drops_unsupported:
                result.sentences.append(sentence)
                yield sentence
            else:
                result.dropped += 1
        breaker.succeeded()
    except ModelUnavailable:
        breaker.failed()
        raise
    finally:
        result.usage = _note_usage(db, key, model.endpoint.model, spent)


def _drafts(
    settings: Settings,
    endpoint: Endpoint,
    question: str,
    passages: Sequence[Hit],
    cancelled: threading.Event,
    spent: Spent,
    result: Generated,
) -> Iterator[DraftSentence]:
    reader = DraftReader()
    pieces = stream_text(
        endpoint,
        build_messages(question, passages),
        lambda address: refusal(address, settings.allowed_networks),
        cancelled,
        spent,
    )
    for piece in pieces:
        yield from reader.feed(piece)
    if spent.finish == "stop":
        yield from reader.end()
    else:  # the last line is not whole: what it would have cited is not known
        result.findings.append(Finding("too_long" if spent.finish == "too_long" else "cut_off"))


def _verified(
    draft: DraftSentence,
    place: int,
    texts: Sequence[str],
    passages: Sequence[Hit],
    version: int,
    findings: list[Finding],
) -> AnswerSentence:
    citations = []
    for cited in draft.cites:
        quote = draft.text if cited.quote is None else cited.quote
        found = check_quote(quote, cited.number, texts)
        if isinstance(found, Located):
            citations.append(_citation(passages[cited.number - 1], cited.number, found, version))
        else:
            findings.append(Finding(found, place, cited.number, quote))
    if not draft.cites:
        findings.append(Finding("no_citation", place))
    is_supported = bool(draft.cites) and len(citations) == len(draft.cites)
    return AnswerSentence(draft.text, is_supported, tuple(citations))


def _citation(hit: Hit, number: int, found: Located, version: int) -> Citation:
    return Citation(
        number=number,
        document_id=hit.document_id,
        key=hit.key,
        title=hit.title,
        chunk_id=hit.chunk_id,
        version=version,
        start=hit.start + found.start,
        end=hit.start + found.end,
        quote=hit.text[found.start : found.end],
    )


def _note_usage(db: Database, key: KbKey, model: str, spent: Spent) -> Usage:
    if not spent.input_tokens and not spent.output_tokens:
        return Usage()
    unit, tokens = uuid.uuid4().hex, spent.input_tokens + spent.output_tokens
    cost = ledger.note_answer(db, key, unit, model, tokens)
    return Usage(spent.input_tokens, spent.output_tokens, cost)
