"""The plan file: what the operator lets the tenants of a plan use, validated once at the border."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, cast

from pydantic import BeforeValidator, Field, WithJsonSchema

from kb_pipeline.spec.sources import SourceType
from kb_pipeline.spec.yaml_file import FileKind, Seconds, Slug, Strict, read_file, read_written

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?i?)B")
_UNITS = {"": 1, **{f"{p}{i}": base**n for i, base in (("", 1000), ("i", 1024)) for n, p in enumerate("kMGT", 1)}}


def _read_size(written: object) -> object:
    if isinstance(written, int):
        return written
    match = _SIZE.fullmatch(written) if isinstance(written, str) else None
    if match is None or match[2] not in _UNITS:
        raise ValueError(
            "allowed is a number of bytes, or one with a unit: kB, MB, GB, TB, kiB, MiB, GiB, TiB, as in 20 GB"
        )
    return round(float(match[1]) * _UNITS[match[2]])


_MOST = 2**53  # what JSON and SQL's big integers carry unharmed
Count = Annotated[int, Field(ge=0, le=_MOST)]
_SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": _MOST},
        {"type": "string", "pattern": rf"^{_SIZE.pattern}$", "description": "a size, as in 20 GB"},
    ]
}
Bytes = Annotated[int, BeforeValidator(_read_size), Field(ge=0, le=_MOST), WithJsonSchema(_SIZE_SCHEMA)]
"""Written as `20 GB`."""


MAX_REQUESTS_PER_MINUTE = 1_000_000
RequestsPerMinute = Annotated[int, Field(ge=1, le=MAX_REQUESTS_PER_MINUTE)]


class PlanLimits(Strict):
    """How much a tenant of the plan may use; what is not given is unlimited."""

    concurrent_runs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Without it two: no tenant takes the whole machine."""
    pages_per_day: Count | None = None
    """Pages asked for in one day (UTC), changed or not."""
    documents: Count | None = None
    """In the live versions of all the tenant's KBs."""
    chunks: Count | None = None
    storage: Bytes | None = None
    """Everything that is kept of the tenant's KBs on disk."""
    embedding_tokens_per_day: Count | None = None
    priority: Annotated[int, Field(ge=1, le=100)] = 1
    """A tenant of priority 3 gets three runs for each one of a tenant of priority 1 while both wait."""
    models: list[Annotated[str, Field(min_length=1, max_length=500)]] | None = None
    source_types: list[SourceType] | None = None
    shortest_interval: Seconds | None = None
    """The least time between two ticks of a KB's schedule."""
    requests_per_minute: RequestsPerMinute | None = None
    """Over HTTP, of all the tenant's callers together; as many at once after a quiet minute."""


class PlanSpec(Strict):
    """One plan: its limits, and what its tenants' embedding costs."""

    plan: Slug
    limits: PlanLimits = PlanLimits()
    prices: dict[str, Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]] = {}  # noqa: RUF012 - pydantic copies it
    """Of a million tokens, by model, in whatever currency the operator counts."""


_PLAN = FileKind("plan", PlanSpec, ("plan", "limits"))


def load_plan(path: Path) -> PlanSpec:
    """Read and validate a plan file; raises InvalidSpec."""
    return cast("PlanSpec", read_file(path, _PLAN).validate())


def parse_plan(text: str, name: str) -> PlanSpec:
    """Validate the text of a plan file, which errors call by the name; raises InvalidSpec."""
    return cast("PlanSpec", read_written(text, name, _PLAN).validate())
