"""Says what is wrong with a file that a person wrote: where, what was given, what is allowed, what may be meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from kb_pipeline.errors import Position, Problem

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from kb_pipeline.spec.yaml_document import Place

Schema = Mapping[str, Any]
PositionOf = Callable[["Place", bool], "Position | None"]
"""Where a field stands, given whether its name is meant rather than its value."""

_MAX_GIVEN = 120
_NAMES = (list, dict)
_LIKENESS = 0.6
"""Of difflib: what is less like something known is no slip of the pen."""
_UNITS = {"day": "d", "hour": "h", "minute": "m", "second": "s", "week": "w"}


def problems_of(
    error: ValidationError, model: type[BaseModel], body: object, position: PositionOf, *, is_hidden: bool
) -> list[Problem]:
    """Put what pydantic found into words, one problem a place.

    Args:
        error: what it found.
        model: of the file.
        body: what the file holds.
        position: where a field stands in it.
        is_hidden: whether values must not be shown, since variables may have given them.
    """
    schemas = Schemas(model)
    found: dict[Place, Problem] = {}
    for each in _without_other_branches(error.errors(), body):
        place = _place(each["loc"], body, is_missing=each["type"] in ("missing", "union_tag_not_found"))
        is_misspelled = each["type"] == "missing" and _is_misspelled(place, schemas, body)
        if place not in found and not is_misspelled:
            found[place] = _problem(each, place, schemas, body, position, is_hidden=is_hidden)
    return list(found.values())


class Schemas:
    """What a model allows at each place, by its JSON Schema."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._root = model.model_json_schema()
        self._sections: Mapping[str, Schema] = self._root.get("$defs", {})

    def at(self, place: Place, body: object) -> Schema:
        """Return the schema of a place; of its list or mapping where it has none of its own."""
        schema, value = self._resolve(self._root, body), body
        for part in place:
            inner = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part)
            if inner is None:
                return schema
            value = _inner(value, part)
            schema = self._resolve(inner, value)
        return schema

    def owners(self, field: str) -> list[str]:
        """Return where a field of that name belongs, as people say it."""
        owners = [_section_name(name) for name, each in self._sections.items() if field in each.get("properties", {})]
        return owners + (["the top of the file"] if field in self._root.get("properties", {}) else [])

    def _resolve(self, schema: Schema, value: object) -> Schema:
        while True:
            if "$ref" in schema:
                schema = self._sections[schema["$ref"].rsplit("/", 1)[1]]
            elif "discriminator" in schema:
                kind = value.get("type") if isinstance(value, dict) else None
                known = schema["discriminator"]["mapping"]
                if kind not in known:
                    return {"type": "object", "properties": {"type": {"enum": list(known)}}}
                schema = self._sections[known[kind].rsplit("/", 1)[1]]
            elif "anyOf" in schema and (branch := _branch(schema["anyOf"], value)) is not None:
                schema = branch
            else:
                return schema


def allowed_by(schema: Schema) -> str:
    """Return in words what a schema allows."""
    if "anyOf" in schema:
        each = [allowed_by(branch) for branch in schema["anyOf"] if branch.get("type") != "null"]
        return _one_of([word for words in each for word in words.split(" or ")])
    if (values := _values(schema)) is not None:
        return _one_of(values)
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _range(schema)
    if kind == "boolean":
        return "true or false"
    if kind == "array":
        most = f" of at most {schema['maxItems']:,} items" if schema.get("maxItems") else ""
        return f"a list that is not empty{most and ','}{most}" if schema.get("minItems") else f"a list{most}"
    if kind == "object" or "properties" in schema:
        return f"a mapping with {', '.join(schema.get('properties', {}))}"
    if schema.get("description") and schema.get("pattern"):
        return str(schema["description"])
    return "a text" + (f" of at most {schema['maxLength']:,} characters" if schema.get("maxLength") else "")


def spelled(value: object) -> str:
    """Return a value as its writer would spell it in YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else repr(value)[:_MAX_GIVEN]


def closest(given: str, known: Iterable[str]) -> str | None:
    """Return which of the known names was probably meant: the same in another spelling, or one that is very like."""
    names = {_bare(name): name for name in known}
    match = get_close_matches(_bare(given), names, n=1, cutoff=_LIKENESS)
    return names[match[0]] if match else None


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `did you mean NAME?`; empty if nothing known is like it."""
    meant = closest(given, known)
    return f"did you mean {meant}?" if meant is not None and meant != given else ""


def _problem(
    error: Mapping[str, Any], place: Place, schemas: Schemas, body: object, position: PositionOf, *, is_hidden: bool
) -> Problem:
    kind, where = error["type"], ".".join(map(str, place)) or "(file)"
    if kind in ("extra_forbidden", "invalid_key"):
        known = list(schemas.at(place[:-1], body).get("properties", {}))
        suggestion = did_you_mean(str(place[-1]), known) or _belongs(str(place[-1]), schemas)
        return Problem(
            where, "an unknown field", f"allowed here: {', '.join(known)}", suggestion, position(place, True)
        )
    if kind in ("missing", "union_tag_not_found"):
        place = place if kind == "missing" else (*place, "type")
        allowed = f"this field is required: {allowed_by(schemas.at(place, body))}"
        return Problem(".".join(map(str, place)), "nothing", allowed, position=position(place, True))
    if kind == "union_tag_invalid":
        place, where = (*place, "type"), f"{where}.type"
    value, schema = _at(body, place), schemas.at(place, body)
    # With ${NAME} in the file any value may be a secret: say where, not what.
    given = "a value (hidden)" if is_hidden else spelled(value)
    message = error["msg"].removeprefix("Value error, ")
    allowed = message if kind == "value_error" else f"allowed is {allowed_by(schema)}"
    suggestion = "" if is_hidden else _suggestion(value, schema, place)
    return Problem(where, given, allowed, suggestion, position(place, False))


def _suggestion(value: object, schema: Schema, place: Place) -> str:
    """Return what was probably meant by a value that is not allowed; empty without a guess."""
    name, kind = str(place[-1]) if place else "", schema.get("type")
    if isinstance(value, bool) and kind == "string" and "enum" not in schema:
        return "write it in quotes: YAML reads no, yes, on and off as true or false"
    if isinstance(value, (int, float)) and not isinstance(value, bool) and kind == "string" and "enum" not in schema:
        return _duration(value, schema.get("pattern", "")) or f"write it in quotes: {name}: '{value}'"
    if kind == "array" and isinstance(value, str):
        return f"write a list: {name}: [{value!r}]"
    if kind == "object" and not isinstance(value, _NAMES) and value is not None:
        return _as_field(name, value, schema)
    if isinstance(value, str):
        return _text_suggestion(value, schema, name)
    if isinstance(value, (int, float)) and schema.get("maximum") == 1 and 2 <= value <= 100:
        return f"did you mean {value / 100:g}, which is {value:g} per cent?"
    return ""


def _text_suggestion(value: str, schema: Schema, name: str) -> str:
    if (values := _values(schema)) is not None and (meant := did_you_mean(value, map(str, values))):
        return meant
    if name == "timezone":
        return did_you_mean(value, available_timezones())
    if name == "cron":
        return _cron(value)
    if schema.get("format") == "uri" or re.match(r"(www\.)?[\w-]+(\.[\w-]+)+(/|$)", value):
        address = f"https://{value.removeprefix('//')}"
        return f"did you mean {address}?" if not urlsplit(value).scheme and urlsplit(address).hostname else ""
    if (percent := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value)) and schema.get("maximum") == 1:
        return f"did you mean {float(percent[1]) / 100:g}?"
    if (pattern := schema.get("pattern")) is not None:
        return _respelled(value, pattern)
    number = value.replace(",", "").replace("_", "").replace(" ", "")
    is_number = schema.get("type") in ("integer", "number") and re.fullmatch(r"-?\d+(\.0+)?", number)
    return f"did you mean {int(float(number))}?" if is_number else ""


def _respelled(value: str, pattern: str) -> str:
    """Suggest a name or a code in the spelling that its pattern wants."""
    plain = value.strip().lower()
    for attempt in (plain, re.sub(r"[^a-z0-9]+", "-", plain).strip("-"), re.split(r"[-_]", plain)[0]):
        if attempt and attempt != value and re.search(pattern, attempt):
            return f"did you mean {attempt}?"
    if match := re.match(r"(\d+)\s*(day|hour|minute|second|week)", plain):
        return f"did you mean {match[1]}{_UNITS[match[2]]}?"
    return ""


def _duration(value: float, pattern: str) -> str:
    with_unit, alone = f"{value:g}d", f"{value:g}"
    wants_unit = pattern and re.search(pattern, with_unit) and not re.search(pattern, alone)
    return f"did you mean {with_unit}?" if wants_unit else ""


def _cron(value: str) -> str:
    named = {
        "hourly": "0 * * * *", "daily": "0 3 * * *", "nightly": "0 3 * * *", "weekly": "0 3 * * 0",
        "monthly": "0 3 1 * *",
    }  # fmt: skip
    word = value.strip().lstrip("@").lower()
    if word in named:
        return f"did you mean '{named[word]}'?"
    return f"did you mean '{' '.join(value.split()[1:])}'?" if len(value.split()) == 6 else ""


def _as_field(name: str, value: object, schema: Schema) -> str:
    """Suggest a mapping for a value that stands in the place of one: `schedule: {cron: ...}`."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    wanted = {kinds[type(value)]} | ({"number"} if isinstance(value, int) else set())
    for field, inner in schema.get("properties", {}).items():
        branches = inner.get("anyOf", [inner])
        if any(branch.get("type") in wanted for branch in branches):
            return f"did you mean {name}: {{{field}: {value!r}}}?"
    return ""


def _belongs(field: str, schemas: Schemas) -> str:
    owners = schemas.owners(field)
    return f"{field} belongs to {' or '.join(owners)}" if owners else ""


def _is_misspelled(place: Place, schemas: Schemas, body: object) -> bool:
    """Return whether an unknown field beside is probably meant for a missing one: that field's problem says so."""
    beside, known = _at(body, place[:-1]), schemas.at(place[:-1], body).get("properties", {})
    unknown = [str(name) for name in beside if name not in known] if isinstance(beside, dict) else []
    return any(closest(name, known) == place[-1] for name in unknown)


def _without_other_branches(errors: Sequence[Any], body: object) -> Iterator[Any]:
    """Leave out what a value is told by a branch of a union that is not the one it was written for."""
    deepest: dict[Place, int] = {}
    for each in errors:
        if (branch := _branch_place(each["loc"], body)) is not None:
            depth = len(_place(each["loc"], body, is_missing=False))
            deepest[branch] = max(depth, deepest.get(branch, 0))
    for each in errors:
        branch = _branch_place(each["loc"], body)
        if branch is None or len(_place(each["loc"], body, is_missing=False)) == deepest[branch]:
            yield each


def _branch_place(loc: Place, body: object) -> Place | None:
    """Return the place of the union in which a branch reports; None if none does."""
    value: object = body
    place: Place = ()
    for part in loc:
        if not _has(value, part):
            if isinstance(part, str) and "[" in part:  # such as list[...]; a source's type has none
                return place
            continue
        value, place = _inner(value, part), (*place, part)
    return None


def _place(loc: Place, body: object, *, is_missing: bool) -> Place:
    """Return the place in the file: pydantic also names the types of a union's branches."""
    value: object = body
    place: Place = ()
    for number, part in enumerate(loc):
        if _has(value, part):
            value, place = _inner(value, part), (*place, part)
        elif is_missing and number == len(loc) - 1 and isinstance(value, dict):
            place = (*place, part)
    return place


def _has(value: object, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value)


def _inner(value: object, part: str | int) -> object:
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def _at(body: object, place: Place) -> object:
    for part in place:
        body = _inner(body, part)
    return body


def _branch(branches: Sequence[Schema], value: object) -> Schema | None:
    """Return the branch of a union that a value was written for; None if several may be."""
    wanted = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else None
    fits = [each for each in branches if each.get("type", "object" if "$ref" in each else None) == wanted]
    others = [each for each in branches if each.get("type") != "null"]
    return fits[0] if wanted and fits else others[0] if len(others) == 1 else None


def _values(schema: Schema) -> list[Any] | None:
    """Return the values that a schema, or a branch of it, lists; None without any."""
    if "anyOf" in schema:
        return next((values for each in schema["anyOf"] if (values := _values(each)) is not None), None)
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _one_of(values: Sequence[Any]) -> str:
    names = [str(value) for value in values]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _range(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if above is not None:
        return f" above {above:,}" + (f", at most {most:,}" if most is not None else "")
    if least is not None and most is not None:
        return f" from {least:,} to {most:,}"
    return f" of at least {least:,}" if least is not None else f" of at most {most:,}" if most is not None else ""


def _section_name(model: str) -> str:
    if model.endswith("Source"):
        return f"a source of type {model.removesuffix('Source').lower()}"
    return {"CrawlLimits": "the limits of a source", "GoldenQuery": "a golden query"}.get(model, model.lower())


def _bare(name: str) -> str:
    """Return a name without what people spell in several ways: case, hyphens, underscores."""
    return re.sub(r"[\W_]+", "", name).lower()
