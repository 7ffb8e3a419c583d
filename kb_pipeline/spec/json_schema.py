"""The JSON Schema of KB files, with which editors complete and check what is written."""

from __future__ import annotations

from typing import Any

from kb_pipeline.spec.kb_file import KbSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", "description": "a ${NAME}"}
_SCALARS = frozenset({"integer", "number", "boolean"})


def kb_schema() -> dict[str, Any]:
    """Return the schema of a KB file as it is written: with `${NAME}` in sources, and golden queries by file name."""
    schema = KbSpec.model_json_schema()
    sections = schema["$defs"]
    for name, section in sections.items():
        if name.endswith("Source") or name == "CrawlLimits":
            section["properties"] = {field: _or_variable(each) for field, each in section["properties"].items()}
    queries = sections["Publish"]["properties"]["queries"]
    described = {"description": queries.pop("description", ""), "default": queries.pop("default", [])}
    file_name = {"type": "string", "description": "the name of a YAML file beside this one"}
    sections["Publish"]["properties"]["queries"] = {"anyOf": [file_name, queries], **described}
    return {"$schema": DIALECT, "title": "KB file", **{name: each for name, each in schema.items() if name != "title"}}


def _or_variable(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field that may also be a variable, which only text fields can be as they are."""
    if field.get("type") not in _SCALARS and not ("enum" in field and field.get("type") == "string"):
        return field
    outer = {"description", "default", "title"} & field.keys()
    inner = {name: each for name, each in field.items() if name not in outer}
    return {"anyOf": [inner, _VARIABLE]} | {name: field[name] for name in sorted(outer)}
