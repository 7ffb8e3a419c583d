"""Search of one KB."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.index.search import MAX_HITS, Mode
from kb_pipeline.service.api.shapes import Answer, AsOf
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbId, KbInPath, open_kb

router = APIRouter(tags=["search"])
MAX_QUERY_CHARS = 4000


class Passage(Answer):
    """The part of a hit that a person wants to read."""

    text: str
    marks: list[tuple[int, int]] = Field(description="Start and end of each word of the query in it.")


class Hit(Answer):
    """One chunk that answers."""

    rank: int
    score: float
    key: str
    title: str
    headings: list[str]
    text: str
    language: str
    document_id: str
    chunk_id: str
    start: int
    end: int
    passage: Passage | None = None


class Hits(Answer):
    """The best chunks of one version, best first."""

    id: KbId
    version: int
    mode: Mode
    hits: list[Hit]


class SearchRequest(BaseModel):
    """What to search for."""

    model_config = ConfigDict(extra="forbid")
    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS)
    k: int = Field(default=10, ge=1, le=MAX_HITS)
    mode: Mode = "hybrid"
    language: str | None = Field(default=None, pattern="^[a-z]{2,3}$", description="ISO 639.")
    as_of: str | int | None = Field(default=None, description="A version's number, or a time.")
    highlights: bool = Field(default=False, description="Whether to choose the passage of each hit and mark it.")


@router.get("/kbs/{kb}/search", responses={304: {"description": "As the client has it."}})
def search(
    kb: KbInPath,
    home: HomeOfCaller,
    response: Response,
    q: Annotated[str, Query(min_length=1, max_length=MAX_QUERY_CHARS, description="Words or a question.")],
    k: Annotated[int, Query(ge=1, le=MAX_HITS)] = 10,
    mode: Mode = "hybrid",
    language: Annotated[str | None, Query(pattern="^[a-z]{2,3}$")] = None,
    as_of: AsOf = None,
    highlights: bool = False,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Any:  # noqa: ANN401 - Hits, or 304 without a body
    """Return the best chunks of a version. An `ETag` names version and request: the same gives 304 until a publish."""
    asked = SearchRequest(query=q, k=k, mode=mode, language=language, as_of=as_of, highlights=highlights)
    found = _search(kb, home, asked)
    tag = _etag(found.version, asked)
    if if_none_match is not None and tag in {each.strip() for each in if_none_match.split(",")}:
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return found


@router.post("/kbs/{kb}/search")
def search_by_body(kb: KbInPath, asked: SearchRequest, home: HomeOfCaller) -> Hits:
    """Return the best chunks of a version; as `GET`, for queries that are long or private."""
    return _search(kb, home, asked)


def _search(kb: str, home: HomeOfCaller, asked: SearchRequest) -> Hits:
    found = open_kb(home, kb).search(asked.query, asked.k, mode=asked.mode, language=asked.language, as_of=asked.as_of)
    hits = [Hit.model_validate(each) for each in found]
    if asked.highlights:
        for hit, passage in zip(hits, found.passages, strict=True):
            hit.passage = Passage.model_validate(passage)
    return Hits(id=kb, version=found.version, mode=found.mode, hits=hits)


def _etag(version: int, asked: SearchRequest) -> str:
    digest = hashlib.sha256(json.dumps(asked.model_dump(exclude={"as_of"}), sort_keys=True).encode())
    return f'"v{version}-{digest.hexdigest()[:16]}"'
