"""`/v1/embeddings`: vectors of texts or of token ids, as floats or in base64."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from kb_pipeline.errors import UsageError
from kb_pipeline.service import cl100k
from kb_pipeline.service.callers import HomeOfCaller

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

router = APIRouter(tags=["OpenAI"])
_MAX_INPUTS = 2048
"""Of OpenAI's API."""
_MAX_TOKENS = 100_000
_Text = Annotated[StrictStr, Field(max_length=100_000)]
_Tokens = Annotated[list[Annotated[StrictInt, Field(ge=0)]], Field(min_length=1, max_length=_MAX_TOKENS)]
_Several = Annotated[list[_Text] | list[_Tokens], Field(min_length=1, max_length=_MAX_INPUTS)]


class EmbeddingRequest(BaseModel):
    """What to embed."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(max_length=500, description="One of `GET /v1/models`.")
    input: _Text | _Tokens | Annotated[list[_Text] | list[_Tokens], Field(min_length=1, max_length=_MAX_INPUTS)] = (
        Field(description="One text or several; or their tokens by cl100k_base, as some clients send them.")
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1, description="No other than the model's own.")
    input_type: Literal["passage", "query"] = Field(
        default="passage",
        description="An addition to OpenAI's API: models of the E5 family embed a question otherwise than what answers "
        "it. Without it every text is embedded as a passage, so that texts of one client can be compared.",
    )
    user: str | None = Field(default=None, max_length=1000, description="Not used.")


class Embedding(BaseModel):
    """The vector of one text, of length 1."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Floats; or base64 of little-endian float32.")


class EmbeddingUsage(BaseModel):
    """Tokens of the texts, as the model counts them."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The vectors, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


@router.post("/embeddings", response_model=EmbeddingList)
def embed(asked: EmbeddingRequest, home: HomeOfCaller) -> Response:
    """Return the vectors of texts."""
    as_queries = asked.input_type == "query"
    made = home.embed(_texts(asked), asked.model, as_queries=as_queries, dimension=asked.dimensions)
    encode = _base64 if asked.encoding_format == "base64" else _floats
    tokens = sum(made.tokens)
    # Written here: to validate hundreds of thousands of numbers takes longer than to compute them.
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(made.vectors)
        ],
        "model": made.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Response(json.dumps(body), media_type="application/json")


def _texts(asked: EmbeddingRequest) -> list[str]:
    given = asked.input
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], int):
        return [_decoded(given)]
    return [each if isinstance(each, str) else _decoded(each) for each in given]


def _decoded(tokens: object) -> str:
    ids = [each for each in tokens if isinstance(each, int)] if isinstance(tokens, list) else []
    try:
        return cl100k.decode(ids)
    except (KeyError, OverflowError):
        raise UsageError(
            "input holds a token id that is none of cl100k_base; send texts, in LangChain with "
            "check_embedding_ctx_length=False"
        ) from None


def _floats(vector: NDArray[np.float32]) -> list[float]:
    numbers: list[float] = vector.tolist()
    return numbers


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
