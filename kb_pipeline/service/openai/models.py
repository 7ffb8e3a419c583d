"""`/v1/models`: the embedding models of the caller's KBs, and its KBs as models that answer."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from kb_pipeline.installation import Installation
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import kb_id

router = APIRouter(tags=["OpenAI"])
ANSWERS = "kb/"
"""Before the id of a KB in the name of the model that answers from it: `kb/acme.handbook`."""


class Model(BaseModel):
    """A model that requests may name."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "kb_pipeline"


class ModelList(BaseModel):
    """The models that the caller may name."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models")
def list_models(home: HomeOfCaller) -> ModelList:
    """List the models: embedding models by name, KBs that answer as `kb/tenant.kb`."""
    return ModelList(data=_models(home))


@router.get("/models/{model:path}")
def show_model(model: str, home: HomeOfCaller) -> Model:
    """Return one model."""
    for each in _models(home):
        if each.id == model:
            return each
    raise HTTPException(404, f"there is no model {model[:200]!r}; GET /v1/models lists them")


def unix_time(moment: datetime) -> int:
    """Return a moment as OpenAI's API writes it: whole seconds since 1970."""
    return int(moment.timestamp())


def _models(home: Installation) -> list[Model]:
    kbs = [
        Model(id=f"{ANSWERS}{kb_id(each.kb)}", created=unix_time(each.created_at))
        for each in home.overview()
        if each.live_version is not None
    ]
    return [Model(id=name, created=0) for name in home.embedding_models()] + kbs
