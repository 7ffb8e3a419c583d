"""The KB file: what a tenant writes, validated once at the border."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from kb_pipeline.errors import InvalidSpec, Problem
from kb_pipeline.model import KbKey, digest
from kb_pipeline.spec.problems import did_you_mean, spelled
from kb_pipeline.spec.sources import Source
from kb_pipeline.spec.variables import VariablesOf, names_in, redact, variable_problems
from kb_pipeline.spec.yaml_file import (
    SLUG,
    FileKind,
    Seconds,
    Slug,
    Strict,
    WrittenFile,
    read_beside,
    read_file,
    read_written,
)


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
    max_age: Annotated[Seconds, Field(json_schema_extra={"default": "7d"})] = 604_800.0
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


class Answers(Strict):
    """The model that writes answers from the KB's passages, behind an OpenAI-compatible endpoint."""

    url: Annotated[str, Field(pattern=r"^https?://", max_length=2000)]
    """Of its API, as in https://api.example.com/v1; `/chat/completions` is appended."""
    model: Annotated[str, Field(min_length=1, max_length=200)]
    """As the endpoint calls it."""
    api_key: Annotated[str, Field(max_length=2000)] = ""
    """Write `${NAME}`, of a secret; empty where the endpoint takes none."""
    max_tokens: Annotated[int, Field(ge=16, le=16_384)] = 800
    """Of an answer."""
    timeout: Annotated[Seconds, Field(ge=1, le=600)] = 60.0
    """For a whole answer."""
    unsupported: Literal["mark", "drop"] = "mark"
    """What is done with sentences whose citations do not stand in the passages."""


def _read_norwegian(written: object) -> object:
    return "no" if written is False else written  # YAML reads no without quotes as false


_LANGUAGE_WORDS = "an ISO 639 code of two or three letters, as in en or de"
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$", description=_LANGUAGE_WORDS), BeforeValidator(_read_norwegian)]


class KbSpec(Strict):
    """One KB: its sources and its rules."""

    tenant: Slug
    kb: Slug
    languages: list[Language] = Field(default_factory=list)
    """Languages (ISO 639) the sources are written in, when known: applying warns if the model cannot read them."""
    sources: Annotated[list[Source], Field(min_length=1, max_length=100)]
    chunking: Chunking = Chunking()
    embedding: Embedding = Embedding()
    schedule: Schedule | None = None
    publish: Publish = Publish()
    answers: Answers | None = None
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
        return {name: digest(repr(value)) for name, value in body.items() if name not in {"tenant", "kb", "answers"}}


_MAX_WRITTEN = 200
"""Characters of a field that are quoted."""


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A valid KB file."""

    spec: KbSpec
    yaml: str
    """The text to store: it keeps `${NAME}` references, so that secrets are not stored."""
    file: WrittenFile
    """Where each field stands in it."""


def load_spec(
    path: Path, variables_of: VariablesOf = lambda *_: {}, may_read: Callable[[Path], object] = lambda _: None
) -> LoadedSpec:
    """Read and validate a KB file. Without `${NAME}` in it, no variable is asked for.

    Args:
        path: of the file.
        variables_of: gives the values of a tenant's variables.
        may_read: raises for a file beside that whoever wrote this one may not have read.

    Raises:
        InvalidSpec: naming the file, each field, what was given and what is allowed.
    """
    file = read_file(path, _KB)
    _inline_queries(file, path, may_read)
    import yaml

    stored = yaml.safe_dump(file.body, sort_keys=False, allow_unicode=True)
    return LoadedSpec(_validate(file, _ask(file.body, variables_of)), stored, file)


def load_text(text: str, name: str, variables_of: VariablesOf) -> LoadedSpec:
    """Validate the text of a KB file that errors call `name`, as `load_spec` does."""
    file = read_written(text, name, _KB)
    return LoadedSpec(_validate(file, _ask(file.body, variables_of)), text, file)


def parse_spec(text: str, file: str, variables: Mapping[str, str] | None = None) -> KbSpec:
    """Validate the text of a KB file, with the values of the variables that it names; raises InvalidSpec."""
    return _validate(read_written(text, file, _KB), variables or {})


def parse_stored(text: str, name: str, variables: Mapping[str, str]) -> KbSpec:
    """Validate a KB file that was applied, by this release or an earlier one, which took repeated names; see above."""
    return _validate(read_written(text, name, _KB, may_repeat=True), variables)


def written_fields(text: str) -> dict[str, Any]:
    """Return the fields of a KB file that was applied, as they are written."""
    return read_written(text, "KB file", _KB, may_repeat=True).body


def other_kind(path: Path) -> str | None:
    """Return what a YAML file beside KB files is instead of one, in words; None if it is to be read as one."""
    try:
        value = read_beside(path, _KB).value
    except InvalidSpec:
        return None  # whoever applies it is told what is wrong
    if isinstance(value, list):
        return "a list, as of golden queries"
    return "a plan file" if isinstance(value, dict) and "plan" in value and "kb" not in value else None


def as_written(text: str, source: int, place: Sequence[str | int]) -> str | None:
    """Return a field of a source as the KB file has it, with its `${NAME}`; None where it is not written.

    Args:
        text: of the KB file, valid.
        source: the number of the source.
        place: where in it: `("exclude", 0)`.
    """
    value: Any = written_fields(text)
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


def _inline_queries(file: WrittenFile, path: Path, may_read: Callable[[Path], object]) -> None:
    """Put the golden queries of the file that `publish.queries` names in its place.

    A KB must not depend on a file that may move, and a tenant's file must name only its neighbours.
    """
    publish = file.body.get("publish")
    name = publish.get("queries") if isinstance(publish, dict) else None
    if not isinstance(name, str):
        return
    beside, place = path.parent / name, ("publish", "queries")
    allowed = "give the name of a YAML file beside the KB file that holds a list of {query, key or text}"
    is_beside = Path(name).name == name
    if is_beside:
        may_read(beside)  # it may be a link
    if not (is_beside and beside.is_file()):
        near = did_you_mean(name, _yaml_files(path.parent)) if is_beside else ""
        raise file.invalid(file.located(Problem("publish.queries", spelled(name), allowed, near), place))
    document = read_beside(beside, _KB)
    if not isinstance(document.value, list):
        where = document.position(())
        problem = Problem("(file)", spelled(document.value), "golden queries are a list of {query, key or text}")
        raise InvalidSpec(str(beside), [replace(problem, position=where)])
    file.put(place, document)


def _yaml_files(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.suffix in (".yaml", ".yml")]


def _validate(file: WrittenFile, variables: Mapping[str, str]) -> KbSpec:
    if problems := list(variable_problems(file.body, variables)):
        raise file.invalid(*dict.fromkeys(file.located(problem, place) for problem, place in problems))
    given = {name: variables[name] for name in names_in(file.body)}
    spec = cast("KbSpec", file.validate(given))
    spec._given = given
    return spec


_KB = FileKind("KB", KbSpec, ("tenant", "kb", "sources"))
