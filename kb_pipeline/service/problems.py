"""Answers that say what went wrong: `application/problem+json` (RFC 9457) for every error."""

from __future__ import annotations

import http
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from kb_pipeline import errors
from kb_pipeline.errors import KbError
from kb_pipeline.model import JsonObject
from kb_pipeline.service.rate_headers import rate_headers

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_TYPE = "urn:kb-pipeline:problem:"


class VersionGone(KbError):
    """A cursor belongs to a version that is not kept any more."""

    def __init__(self, cause: object) -> None:
        super().__init__(f"{cause}; begin anew without the cursor")


class TooManyAtOnce(KbError):
    """A tenant has as many requests or streams under way as it may have at once."""

    transient = True

    def __init__(self) -> None:
        super().__init__("the tenant has too many requests or streams under way; wait for some of them to end")


class ServiceBusy(KbError):
    """There is no room for another request at present."""

    transient = True

    def __init__(self) -> None:
        super().__init__("the service has too many requests under way; try again later")


_STATUS: Mapping[type[KbError], int] = {
    errors.UsageError: 422,
    errors.UnknownTenant: 404,
    errors.UnknownPlan: 404,
    errors.UnknownKb: 404,
    errors.UnknownApiKey: 404,
    errors.UnknownOperatorKey: 404,
    errors.UnknownSecret: 404,
    errors.UnknownDocument: 404,
    errors.UnknownVersion: 404,
    errors.UnknownRun: 404,
    errors.UnknownJob: 404,
    errors.UnknownDraft: 404,
    errors.UnknownFlag: 404,
    errors.FlagNotSet: 404,
    errors.TenantExists: 409,
    errors.KeyRetired: 409,
    errors.RemovalBegun: 409,
    errors.NoLiveVersion: 409,
    errors.LeaseHeld: 409,
    errors.GateFailed: 409,
    errors.KeyRefused: 401,
    errors.NotAllowed: 403,
    errors.TenantInactive: 403,
    errors.QuotaExceeded: 429,
    errors.RateLimited: 429,
    errors.SourceFailed: 502,
    errors.ModelUnavailable: 503,
    errors.AnswerCancelled: 503,
    errors.FlagUnreadable: 503,
    errors.IssuerAway: 503,
    errors.SchemaTooNew: 503,
    errors.DamagedStore: 503,
    errors.Unhealthy: 503,
    VersionGone: 410,
    TooManyAtOnce: 429,
    ServiceBusy: 503,
}
"""By the nearest class of an error; what is not here is a fault of ours, 500."""
_DATABASE_AWAY = "the control plane cannot be used; nothing was changed, try again later"
_RETRY_S = 5


class FieldProblem(BaseModel):
    """One thing that is wrong with a request or with a file in it."""

    pointer: str = Field(description="JSON pointer into the request, or the field of the file.")
    detail: str


class Problem(BaseModel):
    """Why a request was refused, and what to do."""

    type: str = Field(description="A URN of the kind of problem.")
    title: str = Field(description="The kind of problem, the same for every occurrence.")
    status: int
    detail: str = Field(description="What is wrong with this request, and what to do.")
    errors: list[FieldProblem] | None = Field(default=None, description="Each thing that is wrong.")


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    found: Sequence[JsonObject] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an answer that says what is wrong.

    Args:
        status: the HTTP status.
        kind: names the kind of problem, as in `unknown-kb`.
        title: says it in words, the same for every occurrence.
        detail: what is wrong with this request and what to do.
        found: each thing that is wrong, with its place.
        headers: of the answer.
    """
    body: JsonObject = {"type": _TYPE + kind, "title": title, "status": status, "detail": detail}
    if found:
        body["errors"] = list(found)
    return Response(json.dumps(body, ensure_ascii=False), status, dict(headers or {}), MEDIA_TYPE)


def of_error(error: KbError) -> Response:
    """Return the answer to a request that raised one of our errors."""
    kind = next(each for each in type(error).__mro__ if each in _STATUS or each is KbError)
    status = _STATUS.get(kind, 500)
    headers = _when_to_retry(error)
    if status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="kb_pipeline"'
    found = None
    if isinstance(error, errors.InvalidSpec):
        found = [{"pointer": each.field, "detail": str(each)} for each in error.problems]
    title = (type(error).__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return problem(status, _kebab(type(error).__name__), title, str(error), found, headers)


def _when_to_retry(error: KbError) -> dict[str, str]:
    if isinstance(error, errors.RateLimited):
        return rate_headers([error.allowance]) | {"Retry-After": str(math.ceil(error.retry_after_s))}
    if isinstance(error, errors.QuotaExceeded) and error.renews_at is not None:
        return {"Retry-After": str(max(1, math.ceil((error.renews_at - datetime.now(UTC)).total_seconds())))}
    return {"Retry-After": str(_RETRY_S)} if error.transient else {}


def of_status(status: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer to a request that failed for a reason of HTTP's own, such as an unknown path."""
    phrase = http.HTTPStatus(status).phrase
    return problem(status, phrase.lower().replace(" ", "-"), phrase, detail or phrase, None, headers)


def install(app: FastAPI) -> None:
    """Have every error of the app answered so."""

    @app.exception_handler(KbError)
    async def ours(_: Request, error: KbError) -> Response:
        return of_error(error)

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> Response:
        return of_status(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        found = [_field_problem(each) for each in error.errors()]
        detail = "; ".join(f"{each['pointer']}: {each['detail']}" for each in found)
        is_json = not any(each["type"] == "json_invalid" for each in error.errors())
        return problem(422 if is_json else 400, "invalid-request", "The request is not valid", detail, found)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        if errors.is_database_error(error):
            logger.error("%s %s: %s", request.method, request.url.path, str(error).partition("\n")[0])
            return problem(
                503, "database-away", "The control plane cannot be used", _DATABASE_AWAY, None,
                {"Retry-After": str(_RETRY_S)},
            )  # fmt: skip
        return problem(500, "fault", "A fault of the service", "this is a fault of the service; its log says more")


def _field_problem(error: Mapping[str, Any]) -> JsonObject:
    place, *inner = (str(each).replace("~", "~0").replace("/", "~1") for each in error["loc"])
    return {"pointer": "/".join(["", *([] if place == "body" else [place]), *inner]), "detail": str(error["msg"])}


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
