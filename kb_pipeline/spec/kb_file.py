"""The KB file: what a tenant writes, validated once at the border."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from kb_pipeline.errors import InvalidSpec, Problem
from kb_pipeline.model import KbKey, digest

_MAX_FILE_BYTES = 1 << 20
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAMED_FIELDS = frozenset({"name", "type"})
_LEAST_HIDDEN = 4
"""Characters of a value that is hidden: what is shorter stands everywhere by chance."""
VariablesOf = Callable[[str, frozenset[str]], Mapping[str, str]]
"""Of a tenant, those of the names that have a value for it."""
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("allowed are absolute http:// and https:// URLs")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry a user name or password")
    _ = parts.port  # raises ValueError when out of range
    return url


HttpUrl = Annotated[str, Field(max_length=2000), AfterValidator(_check_url)]


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
    first_fields: tuple[str, ...]

    def fields_allowed(self, loc: tuple[int | str, ...]) -> str:
        """What may be written where something unknown was."""
        model = self.model
        for part in loc[:-1]:
            model = self.sections.get(str(part), model)
        return "allowed here: " + ", ".join(model.model_fields)


class Strict(BaseModel):
    """What a person writes: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=False)


class CrawlLimits(Strict):
    """How much of a site is too much; what is left out has a reason code of its own."""

    body_mb: Annotated[float, Field(gt=0, le=1000)] = 20
    """The most MiB of one page, as sent and decompressed."""
    links_per_page: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    per_directory: Annotated[int, Field(ge=1)] = 10_000
    """URLs that links lead to in one folder; folders that differ in numbers count as one."""
    per_query_pattern: Annotated[int, Field(ge=1)] = 1_000
    """URLs of one path with the same names of parameters."""
    path_segments: Annotated[int, Field(ge=1, le=1000)] = 20
    repetitive_pages: Annotated[int, Field(ge=1)] = 100
    """Pages that are linked only from pages that say nothing new."""


class WebSource(Strict):
    """A web site, crawled from its start URLs and sitemaps."""

    name: Slug
    type: Literal["web"]
    start_urls: Annotated[list[HttpUrl], Field(min_length=1, max_length=1000)]
    sitemap: Literal["auto", "off"] | list[HttpUrl] = "auto"
    scope: Literal["host", "domain", "prefix"] = "host"
    include: list[str] = []
    exclude: list[str] = []
    max_pages: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    max_depth: Annotated[int, Field(ge=0, le=100)] = 5
    delay_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 1.0
    trust_lastmod: bool = False
    """Whether a page is skipped when its sitemap gives the lastmod of the time it was last asked for."""
    render: Literal["never", "auto", "always"] = "never"
    """Whether pages are opened in a browser that runs their scripts: those without a text of their own, or all."""
    limits: CrawlLimits = CrawlLimits()


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
    queries: Annotated[list[GoldenQuery], Field(max_length=1000)] = []
    """In the KB file: the name of a YAML file beside it, or the list itself."""


class Retention(Strict):
    """How many published versions are kept."""

    versions: Annotated[int, Field(ge=1, le=1000)] = 5


class KbSpec(Strict):
    """One KB: its sources and its rules."""

    tenant: Slug
    kb: Slug
    languages: list[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]] = []
    """Languages (ISO 639) the sources are written in, when known: applying warns if the model cannot read them."""
    sources: Annotated[list[WebSource], Field(min_length=1, max_length=100)]
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
        """The same with `${NAME}` where a string has a value that a variable gave, also as URLs spell it.

        For whatever is logged, recorded or shown of a run and is not itself what the value made: pages lie under
        their addresses, whatever these hold.
        """
        if isinstance(said, dict):
            return {self.redact(key): self.redact(value) for key, value in said.items()}
        if isinstance(said, (list, tuple)):
            return [self.redact(item) for item in said]
        if isinstance(said, str):
            for name, value in sorted(self._given.items(), key=lambda item: -len(item[1])):
                if len(value) >= _LEAST_HIDDEN:
                    said = _spellings(value).sub(f"${{{name}}}", said)
        return said

    def fingerprints(self) -> dict[str, str]:
        """An identity of each section, for the manifest and for telling what an edit touches."""
        body = self.model_dump(mode="json")
        return {name: digest(repr(value)) for name, value in body.items() if name not in {"tenant", "kb"}}


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


def _ask(body: dict[str, Any], variables_of: VariablesOf) -> Mapping[str, str]:
    names, tenant = frozenset(name for _, name in _references(body)), body.get("tenant")
    # A tenant that is no name has no variables; the file is not valid anyway.
    return variables_of(tenant, names) if names and isinstance(tenant, str) and _SLUG.fullmatch(tenant) else {}


def read_text(path: Path, kind: FileKind) -> str:
    """What a small file of somebody's says; raises InvalidSpec."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            what = f"a {kind.name} file is small; check the path"
            raise InvalidSpec(str(path), [Problem("(file)", "more than 1 MiB", what)], kind.name)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem("(file)", str(error), "give a readable UTF-8 YAML file")
        raise InvalidSpec(str(path), [problem], kind.name) from None


def _inline_queries(body: dict[str, Any], path: Path, may_read: Callable[[Path], object]) -> dict[str, Any]:
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


def _read_list(path: Path, allowed: str) -> list[Any]:
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
    given = _given(body, variables or {}, file)
    try:
        spec = KbSpec.model_validate(_substitute(body, given))
    except ValidationError as error:
        raise InvalidSpec(file, [problem_of(e, _KB, has_secrets=bool(given)) for e in error.errors()]) from None
    spec._given = given
    return spec


def variable_names(text: str) -> frozenset[str]:
    """The variables that the text of a KB file names."""
    return frozenset(_VARIABLE.findall(text))


def read_yaml(text: str, file: str, kind: FileKind) -> dict[str, Any]:
    """The mapping that a file holds; raises InvalidSpec."""
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


def _given(body: dict[str, Any], variables: Mapping[str, str], file: str) -> dict[str, str]:
    """The values of the variables that the file names; raises InvalidSpec."""
    problems = []
    for where, name in _references(body):
        if len(where) < 3 or where[0] != "sources" or where[2] in _NAMED_FIELDS:
            allowed = "variables may stand in the fields of a source, except its name and type: the rest is shown"
            problems.append(Problem(".".join(where), f"${{{name}}}", allowed))
        elif name not in variables:
            remedy = f"set {name} with: kb secret set {body.get('tenant')} {name}; what the environment has, the "
            remedy += "operator opens with KB_FILE_VARIABLES"
            problems.append(Problem(f"${{{name}}}", "no such variable", remedy))
    if problems:
        raise InvalidSpec(file, list(dict.fromkeys(problems)))
    return {name: variables[name] for _, name in _references(body)}


def _references(value: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:  # noqa: ANN401
    """Every `${NAME}` of a YAML value, and its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _references(item, (*where, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _references(item, (*where, str(number)))
    elif isinstance(value, str):
        yield from ((where, name) for name in _VARIABLE.findall(value))


def _substitute(value: Any, given: Mapping[str, str]) -> Any:  # noqa: ANN401 - any YAML value
    """Replace `${NAME}` in every string by its value."""
    if isinstance(value, dict):
        return {key: _substitute(item, given) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, given) for item in value]
    return _VARIABLE.sub(lambda match: given[match[1]], value) if isinstance(value, str) else value


@lru_cache(maxsize=256)
def _spellings(value: str) -> re.Pattern[str]:
    """A value as it stands, or with any of its characters as URLs spell them."""

    def spelled(character: str) -> str:
        coded = "".join(f"%{byte:02x}" for byte in character.encode(errors="surrogateescape"))
        return f"(?:{re.escape(character)}|{coded}{'|[+]' * (character == ' ')})"

    return re.compile("".join(spelled(character) for character in value), re.IGNORECASE)


def problem_of(error: Mapping[str, Any], kind: FileKind, *, has_secrets: bool = False) -> Problem:
    """What pydantic found, in our words."""
    where = ".".join(str(part) for part in error["loc"]) or "(file)"
    # With ${NAME} in the file any value may be a secret: say where, not what.
    given = "a value (hidden)" if has_secrets else repr(error["input"])[:120]
    if error["type"] == "extra_forbidden":
        return Problem(where, "an unknown field", kind.fields_allowed(error["loc"]))
    if error["type"] == "missing":
        return Problem(where, "nothing", "this field is required")
    return Problem(where, given, error["msg"].removeprefix("Value error, "))


_SECTIONS: dict[str, type[BaseModel]] = {
    "sources": WebSource,
    "limits": CrawlLimits,
    "chunking": Chunking,
    "embedding": Embedding,
    "schedule": Schedule,
    "publish": Publish,
    "retention": Retention,
}
_KB = FileKind("KB", KbSpec, _SECTIONS, ("tenant", "kb", "sources"))
