"""Reads the YAML files that people write and says in their words what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from kb_pipeline.errors import InvalidSpec, Problem

_MAX_FILE_BYTES = 1 << 20
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""What a name must match whole."""
Slug = Annotated[str, Field(pattern=rf"^{SLUG.pattern}$")]


def _read_duration(written: object) -> object:
    match = _DURATION.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise ValueError("allowed is a number with a unit: s, m, h, d or w, as in 12h or 7d")
    return float(match[1]) * _UNITS_S[match[2]]


Seconds = Annotated[float, Field(gt=0), BeforeValidator(_read_duration)]
"""Written as `12h`."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file that people write, for telling them what is wrong with one."""

    name: str
    model: type[BaseModel]
    sections: Mapping[str, type[BaseModel]]
    """By the name of a section, or by the `type` of an item of a list of several types."""
    first_fields: tuple[str, ...]
    typed_lists: tuple[str, ...] = ()
    """Lists whose items are of several types: pydantic puts an item's type behind its number."""

    def fields_allowed(self, loc: tuple[int | str, ...]) -> str:
        """Return what may be written where something unknown was."""
        model = self.model
        for part in loc[:-1]:
            model = self.sections.get(str(part), model)
        return "allowed here: " + ", ".join(model.model_fields)

    def place(self, loc: tuple[int | str, ...]) -> str:
        """Return the place of a field as people count: `sources.0.limits.body_mb`."""
        has_type = loc[:1] in [(name,) for name in self.typed_lists] and loc[2:3] and loc[2] in self.sections
        parts = (*loc[:2], *loc[3:]) if has_type else loc
        return ".".join(str(part) for part in parts) or "(file)"


class Strict(BaseModel):
    """What a person writes: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=False)


def read_text(path: Path, kind: FileKind) -> str:
    """Return the text of a small file; raise InvalidSpec."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            what = f"a {kind.name} file is small; check the path"
            raise InvalidSpec(str(path), [Problem("(file)", "more than 1 MiB", what)], kind.name)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem("(file)", str(error), "give a readable UTF-8 YAML file")
        raise InvalidSpec(str(path), [problem], kind.name) from None


def read_yaml(text: str, file: str, kind: FileKind) -> dict[str, object]:
    """Return the mapping that a file holds; raise InvalidSpec."""
    import yaml

    try:
        body = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = Problem("(file)", "no valid YAML", str(error).replace("\n", " "))
        raise InvalidSpec(file, [problem], kind.name) from None
    if not isinstance(body, dict):
        what = f"a {kind.name} file is a mapping with {', '.join(kind.first_fields)}"
        raise InvalidSpec(file, [Problem("(file)", type(body).__name__, what)], kind.name)
    return body


def problem_of(error: Mapping[str, Any], kind: FileKind, *, has_secrets: bool = False) -> Problem:
    """Put what pydantic found into our words."""
    where = kind.place(error["loc"])
    # With ${NAME} in the file any value may be a secret: say where, not what.
    given = "a value (hidden)" if has_secrets else repr(error["input"])[:120]
    if error["type"] == "extra_forbidden":
        return Problem(where, "an unknown field", kind.fields_allowed(error["loc"]))
    if error["type"] == "missing":
        return Problem(where, "nothing", "this field is required")
    if error["type"] == "union_tag_not_found":
        return Problem(f"{where}.type", "nothing", "this field is required")
    if error["type"] == "union_tag_invalid":
        known = error["ctx"]["expected_tags"].replace(", ", " or ")
        return Problem(f"{where}.type", repr(error["ctx"]["tag"])[:120], f"Input should be {known}")
    return Problem(where, given, error["msg"].removeprefix("Value error, "))
