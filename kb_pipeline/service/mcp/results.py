"""What tools return: one named model each, which a program reads as JSON and a model as text."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

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
    request: str
    requested_at: datetime
    run_id: str | None = Field(description="The run that it became; null while it waits.")

    def as_text(self) -> str:
        """Return what was asked for."""
        return f"A refresh of {self.kb} was asked for: request {self.request}. list_kbs shows how it stands."
