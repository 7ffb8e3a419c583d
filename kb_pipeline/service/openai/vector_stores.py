"""`/v1/vector_stores`: KBs as vector stores, their documents as files, and search."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.errors import NoLiveVersion, UnknownKb, UsageError
from kb_pipeline.index.documents_by_time import TimedDocument, between
from kb_pipeline.index.filters import Filter
from kb_pipeline.index.search import Hit, unit_score
from kb_pipeline.installation import Installation, Kb
from kb_pipeline.service.api.kbs import KbSummary
from kb_pipeline.service.api.search import MAX_QUERY_CHARS
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import open_kb
from kb_pipeline.service.openai.models import unix_time

router = APIRouter(tags=["OpenAI"])
PREFIX = "vs_"
"""Before the id of a KB in that of its vector store: `vs_acme.handbook`."""
FILE_PREFIX = "file-"
"""Before the id of a document in that of its file."""
MAX_RESULTS = 50
_MAX_QUERIES = 8

StoreId = Annotated[str, Path(max_length=130, examples=["vs_acme.handbook"])]
FileId = Annotated[str, Path(pattern="^(file-)?[0-9a-f]{32}$", examples=["file-0123456789abcdef0123456789abcdef"])]
PageLimit = Annotated[int, Query(ge=1, le=100)]
Order = Annotated[Literal["asc", "desc"], Query(description="By `created_at`.")]
Attributes = dict[str, str | float | bool]


class FileCounts(BaseModel):
    """Documents of a store, by what became of them."""

    in_progress: int = 0
    completed: int
    failed: int
    cancelled: int = 0
    total: int


class VectorStore(BaseModel):
    """A KB."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str = Field(description="The id of the KB.")
    usage_bytes: int = Field(default=0, description="Always 0: storage is counted by tenant, at /api/v1.")
    file_counts: FileCounts
    status: Literal["in_progress", "completed"] = Field(description="`in_progress` until a first version is published.")
    last_active_at: int | None = Field(description="When the newest refresh ended.")
    expires_after: None = None
    expires_at: None = None
    metadata: dict[str, str]


class VectorStoreList(BaseModel):
    """Some of the KBs that the caller may see."""

    object: Literal["list"] = "list"
    data: list[VectorStore]
    first_id: str | None
    last_id: str | None
    has_more: bool


class StoreFile(BaseModel):
    """A document."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int = Field(description="When its bytes were fetched.")
    vector_store_id: str
    status: Literal["completed"] = "completed"
    usage_bytes: int
    last_error: None = None
    attributes: Attributes


class StoreFileList(BaseModel):
    """Some documents."""

    object: Literal["list"] = "list"
    data: list[StoreFile]
    first_id: str | None
    last_id: str | None
    has_more: bool


class TextPart(BaseModel):
    """A text."""

    type: Literal["text"] = "text"
    text: str


class FileContent(BaseModel):
    """The Markdown of a document."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[TextPart]
    has_more: Literal[False] = False
    next_page: None = None


class RankingOptions(BaseModel):
    """How to rank."""

    model_config = ConfigDict(extra="forbid")
    ranker: Literal["auto", "none", "default-2024-11-15"] = Field(default="auto", description="All rank the same.")
    score_threshold: float = Field(default=0.0, ge=0, le=1)


class StoreSearchRequest(BaseModel):
    """What to search a vector store for."""

    model_config = ConfigDict(extra="forbid")
    query: (
        Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS)]
        | Annotated[
            list[Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS)]],
            Field(min_length=1, max_length=_MAX_QUERIES),
        ]
    )
    max_num_results: int = Field(default=10, ge=1, le=MAX_RESULTS)
    filters: Filter | None = None
    ranking_options: RankingOptions | None = None
    rewrite_query: bool = Field(default=False, description="Queries are searched for as they are.")


class StoreHit(BaseModel):
    """A chunk that answers."""

    file_id: str
    filename: str
    score: float = Field(description="0 to 1: how well it ranks by words and by meaning; 1 is first by both.")
    attributes: Attributes
    content: list[TextPart]


class StoreSearchPage(BaseModel):
    """The best chunks, best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[StoreHit]
    has_more: Literal[False] = False
    next_page: None = None


@router.get("/vector_stores")
def list_vector_stores(
    home: HomeOfCaller,
    limit: PageLimit = 20,
    order: Order = "desc",
    after: Annotated[str | None, Query(max_length=130)] = None,
    before: Annotated[str | None, Query(max_length=130)] = None,
) -> VectorStoreList:
    """List the KBs that the caller may see."""
    found = [KbSummary.model_validate(each) for each in home.overview()]
    found.sort(key=lambda each: (each.created_at, each.id), reverse=order == "desc")
    stores = [_store(each) for each in found]
    ids = [each.id for each in stores]
    begin, end = (None if each is None else _position(ids, each) for each in (after, before))
    page, has_more = between(stores, begin, end, limit)
    return VectorStoreList(
        data=page,
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=has_more,
    )


@router.get("/vector_stores/{store}")
def show_vector_store(store: StoreId, home: HomeOfCaller) -> VectorStore:
    """Return one KB as a vector store."""
    key = open_store(home, store).key
    return next(_store(KbSummary.model_validate(each)) for each in home.overview(key.tenant) if each.kb == key)


@router.post("/vector_stores/{store}/search")
def search_vector_store(store: StoreId, asked: StoreSearchRequest, home: HomeOfCaller) -> StoreSearchPage:
    """Return the best chunks of the live version; of several queries each chunk counts by the one it answers best."""
    queries = [asked.query] if isinstance(asked.query, str) else asked.query
    filters = asked.filters.model_dump() if asked.filters else None
    threshold = asked.ranking_options.score_threshold if asked.ranking_options else 0.0
    found = search_store(open_store(home, store), queries, asked.max_num_results, filters, threshold)
    return StoreSearchPage(search_query=queries, data=found)


@router.get("/vector_stores/{store}/files")
def list_files(
    store: StoreId,
    home: HomeOfCaller,
    limit: PageLimit = 20,
    order: Order = "desc",
    after: Annotated[str | None, Query(pattern="^(file-)?[0-9a-f]{32}$")] = None,
    before: Annotated[str | None, Query(pattern="^(file-)?[0-9a-f]{32}$")] = None,
    status: Annotated[
        Literal["in_progress", "completed", "failed", "cancelled"] | None,
        Query(alias="filter", description="Documents of a version are all `completed`."),
    ] = None,
) -> StoreFileList:
    """List the documents of the live version."""
    opened = open_store(home, store)
    page = None
    if status in (None, "completed"):
        try:
            page = opened.documents_by_time(
                after=after and document_id_of(after), before=before and document_id_of(before), limit=limit,
                newest_first=order == "desc",
            )  # fmt: skip
        except NoLiveVersion:
            page = None
    files = [_file(store, each) for each in page.documents] if page else []
    return StoreFileList(
        data=files,
        first_id=files[0].id if files else None,
        last_id=files[-1].id if files else None,
        has_more=page is not None and page.has_more,
    )


@router.get("/vector_stores/{store}/files/{file_id}")
def show_file(store: StoreId, file_id: FileId, home: HomeOfCaller) -> StoreFile:
    """Return one document of the live version, without its text."""
    found = open_store(home, store).document_by_id(document_id_of(file_id))
    return _file(
        store,
        TimedDocument(
            found.document_id, found.source, found.key, found.title, found.language, found.provenance.fetched_at,
            len(found.markdown.encode()),
        ),
    )  # fmt: skip


@router.get("/vector_stores/{store}/files/{file_id}/content")
def show_file_content(store: StoreId, file_id: FileId, home: HomeOfCaller) -> FileContent:
    """Return the Markdown of a document of the live version."""
    found = open_store(home, store).document_by_id(document_id_of(file_id))
    return FileContent(data=[TextPart(text=found.markdown)])


def open_store(home: Installation, store: str) -> Kb:
    """Return the KB of a vector store; raise UnknownKb for what is none, and for another tenant's."""
    if not store.startswith(PREFIX):
        raise UnknownKb(store)
    return open_kb(home, store.removeprefix(PREFIX))


def search_store(
    kb: Kb, queries: list[str], limit: int, filters: dict[str, object] | None, threshold: float
) -> list[StoreHit]:
    """Return the best chunks as OpenAI's API does.

    Args:
        kb: to search in its live version.
        queries: of which a chunk counts by the one that it answers best.
        limit: the most to return.
        filters: only documents that satisfy it.
        threshold: of the score, 0 to 1; what is below is left out.
    """
    best: dict[str, StoreHit] = {}
    for query in queries:
        for hit in (found := kb.search(query, limit, filters=filters)):
            score = round(unit_score(hit.score, found.mode), 6)
            if score >= threshold and (hit.chunk_id not in best or best[hit.chunk_id].score < score):
                best[hit.chunk_id] = _hit(hit, score, found.version)
    return sorted(best.values(), key=lambda each: -each.score)[:limit]


def document_id_of(file_id: str) -> str:
    """Return the id of the document that a file stands for."""
    return file_id.removeprefix(FILE_PREFIX)


def _position(ids: list[str], store: str) -> int:
    if store not in ids:
        raise UsageError(f"there is no vector store {store!r} to go on from; list them from the beginning")
    return ids.index(store)


def _store(found: KbSummary) -> VectorStore:
    return VectorStore(
        id=f"{PREFIX}{found.id}",
        created_at=unix_time(found.created_at),
        name=found.id,
        file_counts=FileCounts(
            completed=found.documents, failed=found.failures, total=found.documents + found.failures
        ),
        status="in_progress" if found.live_version is None else "completed",
        last_active_at=None if found.last_refresh_at is None else unix_time(found.last_refresh_at),
        metadata={} if found.live_version is None else {"version": str(found.live_version)},
    )


def _file(store: str, found: TimedDocument) -> StoreFile:
    return StoreFile(
        id=f"{FILE_PREFIX}{found.document_id}",
        created_at=unix_time(found.fetched_at),
        vector_store_id=store,
        usage_bytes=found.text_bytes,
        attributes={"key": found.key, "title": found.title, "language": found.language, "source": found.source},
    )


def _hit(hit: Hit, score: float, version: int) -> StoreHit:
    return StoreHit(
        file_id=f"{FILE_PREFIX}{hit.document_id}",
        filename=filename_of(hit),
        score=score,
        attributes=attributes_of(hit, version),
        content=[TextPart(text=hit.text)],
    )


def filename_of(hit: Hit) -> str:
    """Return what stands for the name of a file: the title of the document, or its key."""
    return hit.title or hit.key


def attributes_of(hit: Hit, version: int) -> Attributes:
    """Return what is told of a hit beside its text."""
    return {
        "key": hit.key, "title": hit.title, "language": hit.language, "headings": " > ".join(hit.headings),
        "chunk_id": hit.chunk_id, "start": hit.start, "end": hit.end, "version": version,
    }  # fmt: skip
