"""Reads the YAML files that people write and says in their words what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from kb_pipeline.errors import InvalidSpec, Position, Problem
from kb_pipeline.spec.problems import problems_of, spelled
from kb_pipeline.spec.variables import substitute
from kb_pipeline.spec.yaml_document import Place, YamlDocument, YamlProblem, read_document

_MAX_FILE_BYTES = 1 << 20
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""What a name must match whole."""
_SLUG_WORDS = "1 to 63 of a-z, 0-9 and '-', not starting with '-'"
Slug = Annotated[str, Field(pattern=rf"^{SLUG.pattern}$", description=_SLUG_WORDS)]


def _read_duration(written: object) -> object:
    match = _DURATION.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise ValueError("allowed is a number with a unit: s, m, h, d or w, as in 12h or 7d")
    return float(match[1]) * _UNITS_S[match[2]]


def read_off(written: object) -> object:
    """Return `off` where it was written without quotes, which YAML reads as false."""
    return "off" if written is False else written


_DURATION_SCHEMA = {"type": "string", "pattern": rf"^{_DURATION.pattern}$", "description": "a time, as in 12h or 7d"}
Seconds = Annotated[float, Field(gt=0), BeforeValidator(_read_duration), WithJsonSchema(_DURATION_SCHEMA)]
"""Written as `12h`."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file that people write, for telling them what is wrong with one."""

    name: str
    model: type[BaseModel]
    first_fields: tuple[str, ...]


class Strict(BaseModel):
    """What a person writes: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class WrittenFile:
    """A file that a person wrote, of one kind, not yet validated; parts of it may come from files beside it."""

    def __init__(self, kind: FileKind, document: YamlDocument) -> None:
        if not isinstance(document.value, dict):
            what = f"a {kind.name} file is a mapping with {', '.join(kind.first_fields)}"
            problem = Problem("(file)", spelled(document.value), what, position=document.position(()))
            raise InvalidSpec(document.file, [problem], kind.name)
        self.kind, self.name = kind, document.file
        self.body: dict[str, object] = document.value
        self._documents: dict[Place, YamlDocument] = {(): document}

    def put(self, place: Place, document: YamlDocument) -> None:
        """Put the value of another document into the place of the name of its file."""
        *parents, last = place
        inner: Any = self.body
        for part in parents:
            inner = inner[part]
        inner[last] = document.value
        self._documents[place] = document

    def position(self, place: Place, of_name: bool = False) -> Position | None:
        """Return where a field stands, in whichever file."""
        prefix = next(each for each in reversed(self._documents) if place[: len(each)] == each)
        return self._documents[prefix].position(place[len(prefix) :], of_name=of_name)

    def located(self, problem: Problem, place: Place) -> Problem:
        """Return a problem with where its field stands."""
        return replace(problem, position=self.position(place))

    def invalid(self, *problems: Problem) -> InvalidSpec:
        """Return the error that says what is wrong with the file."""
        return InvalidSpec(self.name, problems, self.kind.name)

    def locate(self, error: InvalidSpec) -> InvalidSpec:
        """Return an error that was found after reading, with where its fields stand."""
        places = (tuple(int(p) if p.isdigit() else p for p in each.field.split(".")) for each in error.problems)
        return self.invalid(*(self.located(each, place) for each, place in zip(error.problems, places, strict=True)))

    def validate(self, values: Mapping[str, str] | None = None) -> BaseModel:
        """Return what the file says, with the values of its variables; raise InvalidSpec."""
        body = substitute(self.body, values or {})
        try:
            return self.kind.model.model_validate(body)
        except ValidationError as error:
            found = problems_of(error, self.kind.model, body, self.position, is_hidden=bool(values))
            raise self.invalid(*found) from None


def read_file(path: Path, kind: FileKind) -> WrittenFile:
    """Read a small YAML file; raise InvalidSpec."""
    return read_written(_read_text(path, kind), str(path), kind)


def read_written(text: str, file: str, kind: FileKind, *, may_repeat: bool = False) -> WrittenFile:
    """Read the text of such a file, in which names may repeat or not (see `read_document`); raise InvalidSpec."""
    try:
        return WrittenFile(kind, read_document(text, file, may_repeat=may_repeat))
    except YamlProblem as error:
        raise InvalidSpec(file, error.problems, kind.name) from None


def read_beside(path: Path, kind: FileKind) -> YamlDocument:
    """Read a YAML file that a file of that kind names; raise InvalidSpec."""
    try:
        return read_document(_read_text(path, kind), str(path))
    except YamlProblem as error:
        raise InvalidSpec(str(path), error.problems, kind.name) from None


def _read_text(path: Path, kind: FileKind) -> str:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            what = f"a {kind.name} file is small; check the path"
            raise InvalidSpec(str(path), [Problem("(file)", "more than 1 MiB", what)], kind.name)
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        given = f"a byte that is not UTF-8, {error.start} bytes from its beginning"
        raise InvalidSpec(str(path), [Problem("(file)", given, "save it as UTF-8 text")], kind.name) from None
    except OSError as error:
        problem = Problem("(file)", error.strerror or str(error), "give a readable UTF-8 YAML file")
        raise InvalidSpec(str(path), [problem], kind.name) from None
