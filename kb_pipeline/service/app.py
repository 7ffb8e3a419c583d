"""The application: routes, errors and who may send what, over one opened installation."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route
from starlette.types import ASGIApp

from kb_pipeline.errors import KbError, is_database_error
from kb_pipeline.installation import Installation
from kb_pipeline.model import JsonObject
from kb_pipeline.service import dify, metrics, openwebui, problems
from kb_pipeline.service.api import (
    aliases,
    answers,
    audit,
    completeness,
    documents,
    drafts,
    erasures,
    flags,
    jobs,
    kbs,
    keys,
    plans,
    search,
    secrets,
    tenants,
    usage,
    vectorize,
    versions,
)
from kb_pipeline.service.callers import Authentication
from kb_pipeline.service.error_shapes import ErrorShapes
from kb_pipeline.service.health import Readiness, health
from kb_pipeline.service.job_streams import JobStreams
from kb_pipeline.service.mcp.http import METADATA_PATH, McpEndpoint, ResourceMetadata, metadata_endpoint
from kb_pipeline.service.mcp.http import PATH as MCP_PATH
from kb_pipeline.service.metrics import FigureCache, ServiceMetrics
from kb_pipeline.service.openai import chat, embeddings, models, responses, vector_stores
from kb_pipeline.service.openapi import describe
from kb_pipeline.service.request_limits import RequestLimits
from kb_pipeline.service.request_log import RequestLog
from kb_pipeline.version import __version__

logger = logging.getLogger(__name__)

PREFIX = "/api/v1"
PUBLIC = frozenset({"/healthz", "/readyz", f"{PREFIX}/openapi.json", METADATA_PATH})
"""Paths that need no token."""


OWN_LIMIT: tuple[tuple[re.Pattern[str], int], ...] = ()
"""Paths whose bodies may be longer than others', and how long, in bytes."""
_CORS_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_CORS_ALLOWED = (
    "Authorization", "Content-Type", "If-None-Match", "If-Match", "Idempotency-Key", "Last-Event-ID",
    "Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "Traceparent", "Tracestate",
    "Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata",
)  # fmt: skip
_CORS_EXPOSED = (
    "ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate", "Mcp-Session-Id",
    "Mcp-Protocol-Version", "Tus-Resumable", "Upload-Length", "Upload-Offset",
)  # fmt: skip


class Service(FastAPI):
    """The application, which describes its errors as it answers them."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the application with all that stands around it; the form of errors is outermost."""
        return ErrorShapes(super().build_middleware_stack())

    def openapi(self) -> JsonObject:
        """Return the description of the API, OpenAPI 3.1."""
        return describe(self, PUBLIC)


def create_app(home: Installation) -> FastAPI:
    """Return the application over an installation that its operator opened, and which it closes when it ends."""
    mcp = McpEndpoint(home.settings)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(run_in_threadpool(_warm_up, home))  # requests are answered meanwhile
        async with mcp.run():
            yield
        await warming
        home.close()

    app = routed(life)
    app.state.readiness, app.state.metrics, app.state.figures = Readiness(home), ServiceMetrics(), FigureCache()
    app.state.job_streams = JobStreams(home)
    home.observe(app.state.metrics)
    app.router.routes.append(Route(MCP_PATH, mcp, include_in_schema=False))
    issuers = [issuer] if (issuer := home.settings.access.oidc_issuer) else []
    app.router.routes.append(Route(METADATA_PATH, metadata_endpoint(home.settings, issuers), include_in_schema=False))
    limits = home.settings.service
    app.add_middleware(Authentication, home=home, public=PUBLIC)
    app.add_middleware(ResourceMetadata, settings=home.settings)
    app.add_middleware(
        RequestLimits, max_body_bytes=limits.max_body_bytes, timeout_s=limits.request_timeout_s, own_limit=OWN_LIMIT
    )
    if limits.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=limits.cors_origins, allow_credentials=limits.cors_credentials,
            allow_methods=_CORS_METHODS, allow_headers=_CORS_ALLOWED, expose_headers=_CORS_EXPOSED, max_age=600,
        )  # fmt: skip
    app.add_middleware(RequestLog, metrics=app.state.metrics)
    return app


def routed(life: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None) -> FastAPI:
    """Return the application with its routes alone, to be described."""
    app = Service(
        lifespan=life,
        title="kb_pipeline",
        version=__version__,
        description="Knowledge bases: search, documents, versions.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # it loads its scripts from elsewhere
        redoc_url=None,
    )
    problems.install(app)
    for resource in (
        kbs, search, vectorize, answers, documents, versions, erasures, completeness, usage, jobs, drafts, aliases,
        tenants, plans, keys, secrets, flags, audit,
    ):  # fmt: skip
        app.include_router(resource.router, prefix=PREFIX)
    for shape in (models, embeddings, vector_stores, chat, responses):
        app.include_router(shape.router, prefix="/v1")
    for shape in (dify, openwebui):
        app.include_router(shape.router)
    app.include_router(health)
    app.include_router(metrics.router)
    return app


def _warm_up(home: Installation) -> None:
    try:
        home.warm_up()
    except Exception as error:
        if not isinstance(error, KbError) and not is_database_error(error):
            raise
        logger.warning("nothing was loaded in advance: %s", str(error).partition("\n")[0])
