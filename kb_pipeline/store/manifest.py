"""The manifest of a version: what it consists of, what made it, and how well it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from kb_pipeline.account import Account
from kb_pipeline.errors import InvalidManifest
from kb_pipeline.json_fields import JsonFields
from kb_pipeline.model import EmbeddingModel, JsonObject, KbKey, Record
from kb_pipeline.store.durable_files import write_durably
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import ROLES

FORMAT = 3
"""Format of the manifests that this release writes. Those of the first releases do not say theirs: they are format 1;
format 3 adds the account."""
Rules = Mapping[str, Mapping[str, str | int | float | bool | None]]
"""By stage, every setting of the rules that it worked by."""


@dataclass(frozen=True, slots=True)
class TablePin(Record):
    """A table at one of its Lance versions."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Counts(Record):
    """How much a reader of the version can find."""

    documents: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Content:
    """What follows from the rows of a version's tables."""

    counts: Counts
    languages: Mapping[str, int]
    """Documents by ISO 639 code."""
    sha256: str
    """The same on every machine that built the version from the same bytes by the same rules."""


@dataclass(frozen=True, slots=True)
class GateVerdict(Record):
    """What one gate said of the version."""

    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that is recorded of one version of a KB; stored in the control plane and beside the data."""

    kb: KbKey
    version: int
    """0 for a candidate that has no number yet."""
    created_at: datetime
    run_id: str
    tables: Mapping[str, TablePin]
    """By role, one of `ROLES`."""
    spec: Mapping[str, str]
    """Fingerprints of the KB file's sections."""
    model: EmbeddingModel
    code: Mapping[str, str]
    """Code version of each stage."""
    content: Content
    rules: Rules | None = None
    """None in versions that were published before versions recorded their rules."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Versions of the libraries that texts depend on, by name."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """How well the version answered its probe queries, and the live one of that time beside it."""
    gates: Mapping[str, GateVerdict] = field(default_factory=dict)
    forced: tuple[str, ...] = ()
    """Messages of the gates that failed and were overruled."""
    account: Account | None = None
    """What became of every key that was known when the version was built; None in versions of earlier formats."""
    pruned_at: datetime | None = None
    """When new readers stopped getting the version; its data goes later."""
    format: int = FORMAT

    @property
    def counts(self) -> Counts:
        """Documents and chunks of the version."""
        return self.content.counts

    @property
    def data_identity(self) -> tuple[KbKey, int, tuple[TablePin, ...]]:
        """What tells the data of this version from any other, for caches.

        The number alone does not: erasing a document makes the tables of a version anew under the same number.
        """
        return self.kb, self.version, tuple(self.tables[role] for role in ROLES)

    def numbered(self, number: int) -> Manifest:
        """Return the manifest of a candidate under the number that it was given."""
        return replace(self, version=number)

    @classmethod
    def from_json(cls, kb: KbKey, number: int, value: object) -> Manifest:
        """Read the manifest of a version from JSON; raises InvalidManifest.

        Args:
            kb: the KB that the version is of.
            number: the number of the version.
            value: the parsed JSON object.
        """
        try:
            return _read(kb, number, JsonFields(value))
        except ValueError as error:
            raise InvalidManifest(kb, number, str(error)) from None

    def as_json(self) -> JsonObject:
        """Return the manifest as it is stored and exported; what is empty or unknown is left out."""
        optional: JsonObject = {
            "format": self.format if self.format > 1 else None,
            "version": self.version,
            "rules": self.rules,
            "libraries": self.libraries,
            "scores": self.scores,
            "gates": {name: verdict.as_json() for name, verdict in self.gates.items()},
            "forced": list(self.forced),
            "account": self.account.as_json() if self.account else None,
            "pruned_at": self.pruned_at.isoformat() if self.pruned_at else None,
        }
        return {
            "kb": str(self.kb),
            "created_at": self.created_at.isoformat(),
            "run_id": self.run_id,
            "tables": {role: pin.as_json() for role, pin in self.tables.items()},
            "spec": self.spec,
            "model": self.model.as_json(),
            "code": self.code,
            "counts": self.counts.as_json(),
            "languages": self.content.languages,
            "content_sha256": self.content.sha256,
            **{name: value for name, value in optional.items() if value},
        }


def _read(kb: KbKey, number: int, fields: JsonFields) -> Manifest:
    """Read the fields one by one; raises ValueError that names the field."""
    written = fields.number("format", default=1)
    if not 1 <= written <= FORMAT:
        raise ValueError(f"format is {written}; this release reads formats 1 to {FORMAT}")
    fields.require("kb", str(kb))
    if fields.has("version"):
        fields.require("version", number)
    manifest = Manifest(
        kb=kb,
        version=number,
        created_at=fields.moment("created_at"),
        run_id=fields.text("run_id"),
        tables=_read_pins(fields.inner("tables")),
        spec=fields.texts("spec"),
        model=_read_model(fields.inner("model")),
        code=fields.texts("code"),
        content=_read_content(fields),
        rules=_read_rules(fields.inner("rules")) if fields.has("rules") else None,
        libraries=fields.texts("libraries", default={}),
        scores=fields.figures("scores", default={}),
        gates=_read_gates(fields.inner("gates")) if fields.has("gates") else {},
        forced=fields.text_list("forced", default=()),
        account=Account.read(fields.inner("account")) if fields.has("account") else None,
        pruned_at=fields.moment("pruned_at") if fields.has("pruned_at") else None,
        format=written,
    )
    fields.require_known()
    return manifest


def _read_pins(fields: JsonFields) -> dict[str, TablePin]:
    pins = {}
    for role in ROLES:
        pin = fields.inner(role)
        pins[role] = TablePin(pin.text("name"), pin.number("version"))
        pin.require_known()
    fields.require_known()
    return pins


def _read_model(fields: JsonFields) -> EmbeddingModel:
    model = EmbeddingModel(fields.text("name"), fields.text("fingerprint"), fields.number("dimension"))
    fields.require_known()
    return model


def _read_content(fields: JsonFields) -> Content:
    counts = fields.inner("counts")
    read = Counts(counts.number("documents"), counts.number("chunks"))
    counts.require_known()
    return Content(read, fields.numbers("languages"), fields.text("content_sha256"))


def _read_rules(fields: JsonFields) -> Rules:
    return {stage: fields.inner(stage).scalars() for stage in fields.names()}


def _read_gates(fields: JsonFields) -> dict[str, GateVerdict]:
    verdicts = {}
    for name in fields.names():
        verdict = fields.inner(name)
        verdicts[name] = GateVerdict(verdict.flag("passed"), verdict.text("message"))
        verdict.require_known()
    return verdicts


def manifest_path(paths: KbPaths, number: int) -> Path:
    """Return where the manifest of a version lies."""
    return paths.versions / f"{number:06}.json"


def manifest_numbers(paths: KbPaths) -> set[int]:
    """Return the numbers of the versions that have a manifest file."""
    return {int(path.stem) for path in paths.versions.glob("*.json") if path.stem.isdecimal()}


def write_manifest(paths: KbPaths, manifest: Manifest) -> None:
    """Write the manifest beside the data, for whoever has the data alone."""
    body = json.dumps(manifest.as_json(), indent=1, sort_keys=True, ensure_ascii=False).encode()
    write_durably(manifest_path(paths, manifest.version), body)


def read_manifest(paths: KbPaths, number: int) -> Manifest:
    """Read the manifest file of a version; raises InvalidManifest, also where there is no such file."""
    path = manifest_path(paths, number)
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidManifest(paths.key, number, f"{path} cannot be read: {error}") from error
    return Manifest.from_json(paths.key, number, value)
