"""Chunks and vectors of a text that the request holds."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import open_kb

router = APIRouter(tags=["search"])


class ChunkingGiven(BaseModel):
    """How to split, as in a KB file."""

    model_config = ConfigDict(extra="forbid")
    strategy: Literal["by_heading", "sliding_window"] = "by_heading"
    max_tokens: int = Field(default=256, ge=64, le=8192)
    overlap_tokens: int = Field(default=32, ge=0, le=4096)
    preserve_code: bool = True


class VectorizeRequest(BaseModel):
    """A text, and by which rules to split and embed it: those of a KB's live version, or given ones."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(min_length=1, max_length=200_000, description="Markdown.")
    title: str = Field(default="", max_length=2000, description="Of its document; a part of what is embedded.")
    kb: str | None = Field(default=None, max_length=127, description="The KB whose rules and model to take: tenant.kb.")
    chunking: ChunkingGiven | None = None
    model: Annotated[str, Field(max_length=500)] | None = Field(default=None, description="One of `GET /v1/models`.")

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if self.kb is not None and (self.chunking is not None or self.model is not None):
            raise ValueError("give kb, or chunking and model: a KB has both")
        return self


class VectorizedChunk(BaseModel):
    """A chunk of the text, with its vector."""

    start: int = Field(description="Offset of the first character.")
    end: int
    headings: list[str]
    text: str
    tokens: int
    vector: list[float] = Field(description="Of length 1.")


class Vectorized(BaseModel):
    """The chunks of the text, in order."""

    model: str
    dimension: int
    chunking: ChunkingGiven
    chunks: list[VectorizedChunk]


@router.post("/vectorize")
def vectorize(asked: VectorizeRequest, home: HomeOfCaller) -> Vectorized:
    """Return the chunks and vectors of a text, by the code that a refresh runs; nothing is stored."""
    if asked.kb is not None:
        made = open_kb(home, asked.kb).vectorize(asked.text, asked.title)
    else:
        chunking = asked.chunking.model_dump() if asked.chunking else None
        made = home.vectorize(asked.text, asked.title, model=asked.model, chunking=chunking)
    rules = {name: getattr(made.rules, name) for name in ChunkingGiven.model_fields}
    return Vectorized(
        model=made.model,
        dimension=made.vectors.shape[1],
        chunking=ChunkingGiven.model_validate(rules),
        chunks=[
            VectorizedChunk(
                start=chunk.start, end=chunk.end, headings=list(chunk.headings), text=chunk.text, tokens=chunk.tokens,
                vector=vector.tolist(),
            )
            for chunk, vector in zip(made.chunks, made.vectors, strict=True)
        ],
    )  # fmt: skip
