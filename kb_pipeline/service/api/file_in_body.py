"""A file that a person writes, in the body of a request: as YAML, or its fields as JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import yaml
from fastapi import Request

from kb_pipeline.errors import UsageError
from kb_pipeline.model import JsonObject

_YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/plain")


def file_in_body(kind: str) -> Callable[[Request], Awaitable[str]]:
    """Return what reads such a file from a request's body, as YAML.

    Args:
        kind: of file, as in `a KB file`.
    """

    async def read(request: Request) -> str:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            text = (await request.body()).decode()
            if media_type == "application/json":
                return as_yaml(json.loads(text))
        except UnicodeDecodeError:
            raise UsageError(f"the {kind} file is not UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the body is not JSON: {error}") from None
        if media_type not in _YAML_TYPES:
            allowed = ", ".join(("application/json", *_YAML_TYPES))
            raise UsageError(f"the body is of type {media_type or 'none'}; a {kind} file is sent as one of {allowed}")
        return text

    return read


def describe_file(kind: str) -> JsonObject:
    """Return the description of such a body in OpenAPI, for a route's `openapi_extra`."""
    content = {
        "application/yaml": {"schema": {"type": "string"}},
        "application/json": {"schema": {"type": "object"}},
    }
    about = f"A {kind} file: YAML, or the same fields as JSON."
    return {"requestBody": {"required": True, "description": about, "content": content}}


def as_yaml(fields: object) -> str:
    """Return fields that came as JSON as the text of a file."""
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
