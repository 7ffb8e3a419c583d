"""What tools return: one named model each, which a program reads as JSON and a model as text."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.answers.result import Verdict
from kb_pipeline.model import JsonObject
from kb_pipeline.service.mcp.quoting import IS_DATA, quoted
from kb_pipeline.service.names import KbId


class Result(BaseModel):
    """Base of what tools return."""

    model_config = ConfigDict(from_attributes=True)

    def as_text(self) -> str:
        """Return what a model reads."""
        raise NotImplementedError

    def as_structured(self) -> JsonObject:
        """Return what a program reads."""
        return self.model_dump(mode="json")


class Part(Result):
    """Base of results that may be one part of what there is."""

    left_out: int = Field(0, description="How many more there are that this result does not hold.")
    cursor: str | None = Field(None, description="Give it back as `cursor` to go on, with the same arguments.")

    def _rest(self) -> str:
        if not self.left_out:
            return ""
        way = "raise max_tokens" if self.cursor is None else f"go on with cursor {self.cursor!r}, or raise max_tokens"
        return f" Left out: {self.left_out}; {way}."


class KbShown(BaseModel):
    """One KB, and how it stands."""

    model_config = ConfigDict(from_attributes=True)
    kb: KbId = Field(description="Its id, tenant.kb: what other tools take as `kb`.")
    status: str
    live_version: int | None = Field(description="The version that is read by default; null before the first one.")
    documents: int
    chunks: int
    failures: int = Field(description="Pages and files that could not be turned into text.")
    last_refresh_at: datetime | None


class Kbs(Part):
    """The KBs that the caller may read, by id."""

    kbs: list[KbShown]

    def as_text(self) -> str:
        """Return a line for each KB."""
        lines = [
            f"- {each.kb}: {each.status}, version {each.live_version or '-'}, {each.documents} documents"
            for each in self.kbs
        ]
        return "\n".join([f"Knowledge bases: {len(self.kbs)}.{self._rest()}", *lines])


class Passage(BaseModel):
    """A chunk of a document, with what is needed to cite it and to read on."""

    kb: str
    version: int
    document: str = Field(description="Id of the document: read_document takes it.")
    chunk: str = Field(description="Id of the chunk: find_similar takes it.")
    start: int = Field(description="Where the chunk begins in the document's text, in characters.")
    end: int = Field(description="Where it ends.")
    url: str = Field(description="Where the document's bytes came from.")
    title: str
    headings: list[str] = Field(description="The headings above the chunk, outermost first.")
    language: str
    score: float = Field(description="Compares hits of this result only.")
    text: str
    text_is_cut: bool = Field(description="Whether there is more of the chunk than `text`.")

    def as_text(self, number: int) -> str:
        """Return the chunk as a model reads it: ids beside, all that pages say within a fence."""
        cut = ", cut" if self.text_is_cut else ""
        place = f"characters {self.start}-{self.end}{cut}"
        head = f"[{number}] document {self.document}, chunk {self.chunk}, {place}, score {self.score}"
        path = " > ".join([self.title, *self.headings])
        return f"{head}\n{quoted([self.url, path], self.text)}"


class Passages(Part):
    """The best chunks of one version, best first."""

    kb: str
    version: int
    hits: list[Passage]

    def as_text(self) -> str:
        """Return the chunks, numbered for citation."""
        head = f"Passages of {self.kb}, version {self.version}: {len(self.hits)}.{self._rest()}"
        return "\n\n".join([f"{head} {IS_DATA}" if self.hits else head, *self._numbered()])

    def _numbered(self) -> list[str]:
        return [each.as_text(number) for number, each in enumerate(self.hits, start=1)]


class Citation(BaseModel):
    """Where a sentence comes from: words that stand in the stored document."""

    number: int = Field(description="As [1] in the text of the answer.")
    document: str = Field(description="Id of the document: read_document takes it.")
    version: int
    chunk: str = Field(description="Id of the chunk.")
    start: int = Field(description="Where the quote begins in the document's text, in characters.")
    end: int = Field(description="Where it ends.")
    url: str = Field(description="Where the document's bytes came from.")
    title: str

    def as_text(self) -> str:
        """Return the place as a model reads it."""
        head = f"[{self.number}] document {self.document}, version {self.version}, chunk {self.chunk}"
        return f"{head}, characters {self.start}-{self.end}\n{quoted([self.url, self.title])}"


class Sentence(BaseModel):
    """One sentence of an answer."""

    text: str = Field(description="The words that stand where the citation says.")
    citations: list[Citation]


class Answered(Result):
    """The answer to a question from one version of a KB, or a refusal."""

    kb: str
    version: int
    verdict: Verdict = Field(description="grounded: every sentence is supported; refused: the version has no answer.")
    score: float
    threshold: float = Field(description="What the score must reach for an answer.")
    sentences: list[Sentence] = Field(description="Best first; none in a refusal.")
    left_out: int = Field(0, description="How many more sentences there are: raise max_tokens.")

    def as_text(self) -> str:
        """Return the sentences with their citations; or plainly that there is no answer."""
        place = f"{self.kb}, version {self.version}"
        if self.verdict == "refused":
            scores = f"score {self.score:.2f}, {self.threshold:.2f} is needed" if self.score else "nothing was found"
            return (
                f"No answer: {place}, does not answer this ({scores}). "
                "Say so; do not answer from elsewhere as if it did. search_kb shows what comes nearest."
            )
        rest = f" Left out: {self.left_out}; raise max_tokens." if self.left_out else ""
        lines = [
            " ".join([each.text, *(f"[{citation.number}]" for citation in each.citations)]) for each in self.sentences
        ]
        citations = [citation.as_text() for each in self.sentences for citation in each.citations]
        head = f"Answer from {place}: {self.verdict}, {len(lines)} sentences.{rest} {IS_DATA}"
        return "\n\n".join([f"{head}\n{quoted(lines)}", *citations])


class DocumentText(Result):
    """A part of a document's text, which is Markdown."""

    kb: str
    version: int
    document: str = Field(description="Id of the document.")
    key: str = Field(description="What the source calls it: its URL or path.")
    url: str = Field(description="Where its bytes came from.")
    title: str
    language: str
    fetched_at: datetime
    start: int = Field(description="Where `text` begins in the document, in characters.")
    end: int = Field(description="Where it ends.")
    total: int = Field(description="Characters of the whole document.")
    next: int | None = Field(description="Give it as `from` to read on; null at the end.")
    text: str

    def as_text(self) -> str:
        """Return the part as a model reads it."""
        rest = "" if self.next is None else f" {self.total - self.end} follow: read on with from={self.next}."
        head = (
            f"Document {self.document} of {self.kb}, version {self.version}: characters {self.start}-{self.end} of "
            f"{self.total}.{rest} {IS_DATA}"
        )
        return f"{head}\n\n{quoted([self.url, self.title], self.text)}"


class Change(BaseModel):
    """A document that one version added, changed or removed."""

    model_config = ConfigDict(from_attributes=True)
    change: Literal["added", "changed", "removed"]
    document: str = Field(validation_alias="document_id")
    key: str


class Changes(Part):
    """What became of the documents between two versions: removed, changed and added ones, each kind by key."""

    kb: str
    since_version: int
    version: int
    added: int
    changed: int
    removed: int
    changes: list[Change]

    def as_text(self) -> str:
        """Return a line for each document."""
        counts = f"{self.added} added, {self.changed} changed, {self.removed} removed"
        span = f"from version {self.since_version} to {self.version}"
        head = f"Documents of {self.kb} {span}: {counts}.{self._rest()}"
        if not self.changes:
            return head
        lines = [f"{each.change} {each.document} {each.key}" for each in self.changes]
        return f"{head} {IS_DATA}\n\n{quoted(lines)}"


class Requested(Result):
    """A refresh that was asked for: it starts in the tenant's turn, by the installation's daemon."""

    kb: str
    job: str = Field(description="Id of the job: job_status takes it.")

    def as_text(self) -> str:
        """Return what was asked for, and how to follow it."""
        return (
            f"A refresh of {self.kb} was asked for: job {self.job}. job_status with job={self.job} tells how far it is."
        )


class JobShown(Result):
    """A refresh, from the request to its end."""

    job: str
    kb: KbId
    state: str = Field(
        description="queued, running, or how it ended: ready, ready_with_warnings, unchanged, held, snoozed, partial, "
        "failed, cancelled."
    )
    has_ended: bool
    stage: str | None = Field(description="That is being worked on.")
    percent: float
    eta_s: float | None = Field(description="Seconds until it ends, about.")
    version: int | None = Field(description="What it published, or found live.")
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    counts: dict[str, int]
    messages: list[str] = Field(description="Why it ended as it did, and what to know of it.")
    left_out: int = Field(0, description="How many more messages there are: raise max_tokens.")

    def as_text(self) -> str:
        """Return how far it is; messages name pages, so they are within a fence."""
        stage = f", stage {self.stage}" if self.stage and not self.has_ended else ""
        version = "" if self.version is None else f", version {self.version}"
        rest = f" Messages left out: {self.left_out}; raise max_tokens." if self.left_out else ""
        head = f"Job {self.job} of {self.kb}: {self.state}, {self.percent:g} per cent{stage}{version}.{rest}"
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        return "\n".join([head, counts, *([f"{IS_DATA}\n{quoted(self.messages)}"] if self.messages else [])])
