"""Whether the process lives."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

health = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"


@health.get("/healthz")
async def is_alive() -> Alive:
    """Say that the process answers; it asks nothing that it depends on."""
    return Alive()
