"""The KB file: what a tenant writes, validated once at the border."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, field_validator, model_validator

from kb_pipeline.errors import InvalidSpec, Problem
from kb_pipeline.model import KbKey, digest
from kb_pipeline.spec.sources import SOURCE_CLASSES, CrawlLimits, Source
from kb_pipeline.spec.variables import VariablesOf, names_in, redact, substitute, values_for
from kb_pipeline.spec.yaml_file import SLUG, FileKind, Seconds, Slug, Strict, problem_of, read_text, read_yaml


class Chunking(Strict):
    """How documents are split."""

    strategy: Literal["by_heading", "sliding_window"] = "by_heading"
    max_tokens: Annotated[int, Field(ge=64, le=8192)] = 256
    overlap_tokens: Annotated[int, Field(ge=0, le=4096)] = 32
    preserve_code: bool = True

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Chunking:
        if self.overlap_tokens * 2 > self.max_tokens:
            raise ValueError(f"overlap_tokens must be at most half of max_tokens ({self.max_tokens // 2})")
        return self


class Embedding(Strict):
    """Which model gives the vectors."""

    model: Annotated[str, Field(min_length=1, max_length=500)] = "multilingual-e5-small"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a sentence-transformers model runs; bundled ones run on the CPU."""


class Schedule(Strict):
    """When the KB is refreshed: a cron expression in a time zone."""

    cron: str
    timezone: str = "UTC"
    adaptive: bool = False
    """Whether pages that never change are asked for less often than the KB is refreshed."""
    max_age: Seconds = 604_800.0
    """With `adaptive`: no page is older than this."""

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ValueError, OSError, KeyError):
            raise ValueError("allowed are IANA time zones such as UTC or Europe/Berlin") from None
        return zone

    @field_validator("cron")
    @classmethod
    def _cron_has_ticks(cls, cron: str) -> str:
        from cronsim import CronSim, CronSimError

        try:
            next(CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration, ValueError):
            raise ValueError(
                "allowed is a cron expression of five fields that has ticks, as in '0 */2 * * *'"
            ) from None
        return cron


class GoldenQuery(Strict):
    """A question of the KB and what must be among the first hits: a document's key, or words of a chunk."""

    query: Annotated[str, Field(min_length=1, max_length=2000)]
    key: str | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _one_expectation(self) -> GoldenQuery:
        if (self.key is None) == (self.text is None):
            raise ValueError("give either key (of the expected document) or text (of the expected chunk)")
        return self


class Publish(Strict):
    """What a candidate version must satisfy."""

    max_shrink: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The share of documents, and of the text of those that stay, that may vanish from one version to the next."""
    max_drop: Annotated[float, Field(ge=0, le=1)] = 0.1
    """By how much recall@5 or the mean reciprocal rank may fall below the live version's, over the golden queries and
    over documents asked for in their own words; 1 lets everything through."""
    min_recall: Annotated[float, Field(ge=0, le=1)] = 0.8
    """The share of golden queries that must be answered among the first five hits."""
    queries: Annotated[list[GoldenQuery], Field(max_length=1000)] = Field(default_factory=list)
    """In the KB file: the name of a YAML file beside it, or the list itself."""


class Retention(Strict):
    """How many published versions are kept."""

    versions: Annotated[int, Field(ge=1, le=1000)] = 5


class KbSpec(Strict):
    """One KB: its sources and its rules."""

    tenant: Slug
    kb: Slug
    languages: list[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]] = Field(default_factory=list)
    """Languages (ISO 639) the sources are written in, when known: applying warns if the model cannot read them."""
    sources: Annotated[list[Source], Field(min_length=1, max_length=100)]
    chunking: Chunking = Chunking()
    embedding: Embedding = Embedding()
    schedule: Schedule | None = None
    publish: Publish = Publish()
    retention: Retention = Retention()
    _given: dict[str, str] = PrivateAttr(default_factory=dict)
    """What each `${NAME}` of the file stood for."""

    @model_validator(mode="after")
    def _source_names_are_unique(self) -> KbSpec:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"source names must be unique; got {', '.join(names)}")
        return self

    @property
    def key(self) -> KbKey:
        """`tenant/kb`."""
        return KbKey(self.tenant, self.kb)

    def redact(self, said: Any) -> Any:  # noqa: ANN401 - JSON, of which the strings are looked at
        """Return the same with `${NAME}` where a string has a value that a variable gave, also as URLs spell it.

        For whatever is logged, recorded or shown of a run and is not itself what the value made: pages lie under
        their addresses, whatever these hold.
        """
        return redact(said, self._given)

    def fingerprints(self) -> dict[str, str]:
        """Return a hash of each section, for the manifest and to find out what an edit changes."""
        body = self.model_dump(mode="json")
        return {name: digest(repr(value)) for name, value in body.items() if name not in {"tenant", "kb"}}


_MAX_WRITTEN = 200
"""Characters of a field that are quoted."""


def load_spec(
    path: Path, variables_of: VariablesOf = lambda *_: {}, may_read: Callable[[Path], object] = lambda _: None
) -> tuple[KbSpec, str]:
    """Read and validate a KB file; returns the spec and the YAML to store for it.

    The YAML keeps `${NAME}` references, so that secrets are not stored. Without any, no variable is asked for.
    `may_read` raises for a file beside that whoever wrote this one may not have read.

    Raises:
        InvalidSpec: naming the file, each field, what was given and what is allowed.
    """
    text = read_text(path, _KB)
    body = _inline_queries(read_yaml(text, str(path), _KB), path, may_read)
    import yaml

    stored = yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    return parse_spec(stored, str(path), _ask(body, variables_of)), stored


def read_spec(text: str, name: str, variables_of: VariablesOf) -> KbSpec:
    """Return what the text of a KB file says, with the values of the variables that it names; raises InvalidSpec."""
    return parse_spec(text, name, _ask(read_yaml(text, name, _KB), variables_of))


def as_written(text: str, source: int, place: Sequence[str | int]) -> str | None:
    """Return a field of a source as the KB file has it, with its `${NAME}`; None where it is not written.

    Args:
        text: of the KB file, valid.
        source: the number of the source.
        place: where in it: `("exclude", 0)`.
    """
    value: Any = read_yaml(text, "KB file", _KB)
    for part in ("sources", source, *place):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    told = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{'.'.join(part for part in place if isinstance(part, str))}: {told[:_MAX_WRITTEN]}"


def _ask(body: Mapping[str, object], variables_of: VariablesOf) -> Mapping[str, str]:
    names, tenant = names_in(body), body.get("tenant")
    # A tenant that is no name has no variables; the file is not valid anyway.
    return variables_of(tenant, names) if names and isinstance(tenant, str) and SLUG.fullmatch(tenant) else {}


def _inline_queries(body: dict[str, object], path: Path, may_read: Callable[[Path], object]) -> dict[str, object]:
    """Put the golden queries of the file that `publish.queries` names in its place.

    A KB must not depend on a file that may move, and a tenant's file must name only its neighbours.
    """
    publish = body.get("publish")
    name = publish.get("queries") if isinstance(publish, dict) else None
    if not isinstance(publish, dict) or not isinstance(name, str):
        return body
    beside = path.parent / name
    allowed = "give the name of a YAML file beside the KB file that holds a list of {query, key or text}"
    is_beside = Path(name).name == name
    if is_beside:
        may_read(beside)  # it may be a link
    if not (is_beside and beside.is_file()):
        raise InvalidSpec(str(path), [Problem("publish.queries", repr(name), allowed)])
    return {**body, "publish": {**publish, "queries": _read_list(beside, allowed)}}


def _read_list(path: Path, allowed: str) -> list[object]:
    import yaml

    try:
        items = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise InvalidSpec(str(path), [Problem("(file)", str(error).replace("\n", " "), allowed)]) from None
    if not isinstance(items, list):
        raise InvalidSpec(str(path), [Problem("(file)", type(items).__name__, allowed)])
    return items


def parse_spec(text: str, file: str, variables: Mapping[str, str] | None = None) -> KbSpec:
    """Validate the text of a KB file, with the values of the variables that it names; raises InvalidSpec."""
    body = read_yaml(text, file, _KB)
    given = values_for(body, variables or {}, file)
    try:
        spec = KbSpec.model_validate(substitute(body, given))
    except ValidationError as error:
        raise InvalidSpec(file, [problem_of(e, _KB, has_secrets=bool(given)) for e in error.errors()]) from None
    spec._given = given
    return spec


_SECTIONS: dict[str, type[BaseModel]] = {
    **SOURCE_CLASSES,
    "limits": CrawlLimits,
    "chunking": Chunking,
    "embedding": Embedding,
    "schedule": Schedule,
    "publish": Publish,
    "retention": Retention,
}
_KB = FileKind("KB", KbSpec, _SECTIONS, ("tenant", "kb", "sources"), typed_lists=("sources",))
