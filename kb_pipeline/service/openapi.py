"""Describes the API in OpenAPI 3.1, errors as they are really answered."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from kb_pipeline.model import JsonObject
from kb_pipeline.service.problems import MEDIA_TYPE, FieldProblem, Problem

_FROM_FRAMEWORK = ("HTTPValidationError", "ValidationError")
"""Schemas of errors in FastAPI's own form, in which nothing is answered here."""
_SECURITY = {"token": {"type": "http", "scheme": "bearer", "description": "An API key, or a JSON Web Token."}}


def describe(app: FastAPI, public: frozenset[str]) -> JsonObject:
    """Return the description of the app; made once.

    Args:
        app: with all its routes.
        public: paths that need no token.
    """
    if app.openapi_schema is None:
        app.openapi_schema = _describe(app, public)
    return app.openapi_schema


def _describe(app: FastAPI, public: frozenset[str]) -> JsonObject:
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = described.setdefault("components", {})
    schemas: JsonObject = components.setdefault("schemas", {})
    for name in _FROM_FRAMEWORK:
        schemas.pop(name, None)
    schemas.update(_problem_schemas())
    components["securitySchemes"] = _SECURITY
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    components["responses"] = {"Problem": {"description": "Why not, and what to do.", "content": content}}
    for path, operations in described["paths"].items():
        for operation in operations.values():
            _say_of_errors(operation)
            if path not in public:
                operation["security"] = [{"token": []}]
    return described


def _say_of_errors(operation: JsonObject) -> None:
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    responses["4XX"] = {"$ref": "#/components/responses/Problem"}
    responses["5XX"] = {"$ref": "#/components/responses/Problem"}


def _problem_schemas() -> JsonObject:
    _, made = models_json_schema(
        [(Problem, "serialization"), (FieldProblem, "serialization")], ref_template="#/components/schemas/{model}"
    )
    definitions: JsonObject = made["$defs"]
    return definitions
