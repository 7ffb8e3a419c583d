"""Puts values in the place of `${NAME}` in a KB file, and hides them again in what is shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from kb_pipeline.errors import Problem

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAMED_FIELDS = frozenset({"name", "type"})
_LEAST_HIDDEN = 4
"""Characters of a value that is hidden: what is shorter stands everywhere by chance."""
VariablesOf = Callable[[str, frozenset[str]], Mapping[str, str]]
"""Of a tenant, those of the names that have a value for it."""


def variable_names(text: str) -> frozenset[str]:
    """Return the variables that the text of a KB file names."""
    return frozenset(_VARIABLE.findall(text))


def names_in(body: Mapping[str, object]) -> frozenset[str]:
    """Return the variables that the strings of a file's mapping name."""
    return frozenset(name for _, name in _references(body))


def variable_problems(
    body: Mapping[str, object], variables: Mapping[str, str]
) -> Iterator[tuple[Problem, tuple[str | int, ...]]]:
    """Yield what is wrong with the variables that a file names, and where: no value, or no place for a variable."""
    for place, name in _references(body):
        if len(place) < 3 or place[0] != "sources" or place[2] in _NAMED_FIELDS:
            allowed = "variables may stand in the fields of a source, except its name and type: the rest is shown"
            yield Problem(".".join(map(str, place)), f"${{{name}}}", allowed), place
        elif name not in variables:
            remedy = f"set {name} with: kb secret set {body.get('tenant')} {name}; what the environment has, the "
            remedy += "operator opens with KB_FILE_VARIABLES"
            yield Problem(f"${{{name}}}", "no such variable", remedy), place


def substitute(value: object, given: Mapping[str, str]) -> object:
    """Return a YAML value with the values of variables in the place of `${NAME}` in every string."""
    if isinstance(value, dict):
        return {key: substitute(item, given) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, given) for item in value]
    return _VARIABLE.sub(lambda match: given[match[1]], value) if isinstance(value, str) else value


def redact(value: Any, given: Mapping[str, str]) -> Any:  # noqa: ANN401 - JSON, of which the strings are looked at
    """Return JSON with `${NAME}` where a string has a value that a variable gave, also as URLs spell it."""
    if isinstance(value, dict):
        return {redact(key, given): redact(item, given) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item, given) for item in value]
    if isinstance(value, str):
        for name, secret in sorted(given.items(), key=lambda item: -len(item[1])):
            if len(secret) >= _LEAST_HIDDEN:
                value = _spellings(secret).sub(f"${{{name}}}", value)
    return value


def _references(value: object, where: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the place and the name of every `${NAME}` of a YAML value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _references(item, (*where, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _references(item, (*where, number))
    elif isinstance(value, str):
        yield from ((where, name) for name in _VARIABLE.findall(value))


@lru_cache(maxsize=256)
def _spellings(value: str) -> re.Pattern[str]:
    """Compile a pattern of a value as it stands, or with any of its characters as URLs spell them."""

    def spelled(character: str) -> str:
        coded = "".join(f"%{byte:02x}" for byte in character.encode(errors="surrogateescape"))
        return f"(?:{re.escape(character)}|{coded}{'|[+]' * (character == ' ')})"

    return re.compile("".join(spelled(character) for character in value), re.IGNORECASE)
