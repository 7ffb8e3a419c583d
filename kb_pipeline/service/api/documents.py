"""Documents of a version: the list, one of them, its exact bytes, its chunks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from kb_pipeline.errors import UnknownVersion
from kb_pipeline.model import JsonObject
from kb_pipeline.service.api.shapes import Answer, AsOf, Limit
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.cursors import read_cursor, write_cursor
from kb_pipeline.service.names import KbInPath, open_kb
from kb_pipeline.service.problems import VersionGone

router = APIRouter(tags=["documents"])
DocumentId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="As the list and hits name it.")]


class DocumentListed(Answer):
    """A document, without its text."""

    document_id: str
    source: str
    key: str
    title: str
    language: str
    sha256: str = Field(validation_alias="raw_sha256")
    fetched_at: datetime
    run_id: str


class Documents(Answer):
    """Some documents of one version, by id."""

    version: int
    documents: list[DocumentListed]
    total: int
    cursor: str | None = Field(description="Of the next page; null on the last one.")


class Chunk(Answer):
    """A chunk, with its place in the document's Markdown."""

    chunk_id: str
    start: int
    end: int
    headings: list[str]
    text: str


class Chunks(Answer):
    """The chunks of a document, in order."""

    document_id: str
    chunks: list[Chunk]


@router.get("/kbs/{kb}/documents")
def list_documents(
    kb: KbInPath,
    home: HomeOfCaller,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(max_length=200, description="Of the page before.")] = None,
    as_of: AsOf = None,
) -> Documents:
    """List the documents of a version; a cursor stays with the version that its first page was of."""
    opened = open_kb(home, kb)
    after: str = ""
    if cursor is not None:
        as_of, after = (str(each) for each in read_cursor(cursor))
    try:
        page = opened.document_page(after=after, limit=limit, as_of=as_of)
    except UnknownVersion as error:
        raise VersionGone(error) if cursor else error from None
    return Documents(
        version=page.version,
        documents=[DocumentListed.model_validate(each) for each in page.documents],
        total=page.total,
        cursor=write_cursor(page.version, page.after) if page.after else None,
    )


@router.get("/kbs/{kb}/documents/{document_id}")
def show_document(kb: KbInPath, document_id: DocumentId, home: HomeOfCaller, as_of: AsOf = None) -> JsonObject:
    """Return a document: its Markdown, what its page says of itself, and where it came from."""
    return open_kb(home, kb).document_by_id(document_id, as_of=as_of).as_json()


@router.get("/kbs/{kb}/documents/{document_id}/markdown", response_class=Response)
def show_markdown(kb: KbInPath, document_id: DocumentId, home: HomeOfCaller, as_of: AsOf = None) -> Response:
    """Return a document's Markdown alone."""
    document = open_kb(home, kb).document_by_id(document_id, as_of=as_of)
    return Response(document.markdown, media_type="text/markdown; charset=utf-8")


@router.get("/kbs/{kb}/documents/{document_id}/raw", response_class=Response)
def show_raw_bytes(kb: KbInPath, document_id: DocumentId, home: HomeOfCaller, as_of: AsOf = None) -> Response:
    """Return the exact bytes that a document was made from, to be saved and not shown: they are a stranger's."""
    body = open_kb(home, kb).raw_bytes_by_id(document_id, as_of=as_of)
    return Response(body, media_type="application/octet-stream", headers={"Content-Disposition": "attachment"})


@router.get("/kbs/{kb}/documents/{document_id}/chunks")
def list_chunks(kb: KbInPath, document_id: DocumentId, home: HomeOfCaller, as_of: AsOf = None) -> Chunks:
    """Return a document's chunks, from its beginning to its end."""
    found = open_kb(home, kb).chunks(document_id, as_of=as_of)
    return Chunks(document_id=document_id, chunks=[Chunk.model_validate(each) for each in found])


@router.get("/kbs/{kb}/documents/{document_id}/replay")
def replay_document(kb: KbInPath, document_id: DocumentId, home: HomeOfCaller, as_of: AsOf = None) -> JsonObject:
    """Make a document's chunks again from its stored bytes by the rules of its version, and compare."""
    opened = open_kb(home, kb)
    return opened.replay(opened.document_by_id(document_id, as_of=as_of).key, as_of=as_of).as_json()
