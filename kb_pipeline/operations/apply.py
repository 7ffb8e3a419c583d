"""Applies KB files: each becomes an entry of the catalog and a partition of Dagster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import Action, check_owner, store_spec
from kb_pipeline.control.kbs.versions import live_manifest
from kb_pipeline.control.metering.limits import check_allowed
from kb_pipeline.control.tenancy.plans import limits_of_anybody
from kb_pipeline.control.tenancy.secrets import variables_of
from kb_pipeline.embed.models import is_bundled
from kb_pipeline.errors import InvalidSpec, NoLiveVersion, Problem, UnknownModel
from kb_pipeline.model import KbKey
from kb_pipeline.operations.authorization import Caller
from kb_pipeline.operations.orchestrator import Orchestrator
from kb_pipeline.operations.run_summary import language_warnings
from kb_pipeline.operations.source_rules import check_spec, source_warnings
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec, load_spec, read_spec


@dataclass(frozen=True, slots=True)
class AppliedKb:
    """What applying a KB file did."""

    kb: KbKey
    action: Action
    warnings: tuple[str, ...] = ()
    """What its owner should know though the file is valid, a sentence each."""

    def as_json(self) -> dict[str, str]:
        """Return the result as `kb apply --json` prints it, without warnings."""
        return {"kb": str(self.kb), "action": self.action}


@dataclass(frozen=True, slots=True)
class KbText:
    """The text of a KB file that does not come from a path."""

    yaml: str
    name: str = "the KB file"
    """What errors call it."""


@dataclass(frozen=True, slots=True)
class _KbFile:
    """A KB file whose text is valid."""

    name: str
    spec: KbSpec
    yaml: str
    """The text to keep: variables in it are still references."""


def apply_files(
    settings: Settings,
    db: Database,
    caller: Caller,
    orchestrator: Orchestrator,
    files: Sequence[Path | KbText],
    *,
    reuse_key: bool = False,
) -> list[AppliedKb]:
    """Validate every file, then create or update the KBs that they describe.

    Args:
        settings: of the installation.
        db: its control plane.
        caller: who applies them.
        orchestrator: gets a partition for each KB at once, also if no sensor runs.
        files: the KB files, by path or as text.
        reuse_key: whether the key of a deleted tenant or KB may be taken.

    Raises:
        NotAllowed: the caller may not name the path of a file, or the tenant in it.
        InvalidSpec, UnknownModel, QuotaExceeded, KeyRetired, TenantInactive: nothing was applied.
    """
    loaded = [_load(settings, db, caller, path) for path in files]
    _require_distinct(loaded)
    for file in loaded:
        _check(settings, db, caller, file, reuse_key=reuse_key)
    actions = [store_spec(db, file.spec, file.yaml, caller.actor) for file in loaded]
    orchestrator.add_partitions([file.spec.key for file in loaded])
    return [
        AppliedKb(file.spec.key, action, tuple(_warnings(settings, db, file.spec)))
        for file, action in zip(loaded, actions, strict=True)
    ]


def _load(settings: Settings, db: Database, caller: Caller, file: Path | KbText) -> _KbFile:
    def values_of(tenant: str, names: frozenset[str]) -> dict[str, str]:
        caller.require_tenant(tenant)  # before anything of another tenant's is looked at
        return variables_of(settings, db, tenant, names)

    if isinstance(file, KbText):
        return _KbFile(file.name, read_spec(file.yaml, file.name, values_of), file.yaml)
    path = caller.readable_path(file, settings)
    spec, yaml = load_spec(path, values_of, lambda beside: caller.visible_path(beside, settings))
    return _KbFile(str(path), spec, yaml)


def _check(settings: Settings, db: Database, caller: Caller, file: _KbFile, *, reuse_key: bool) -> None:
    caller.require_tenant(file.spec.tenant)
    _check_model(db, caller, file.spec)
    check_spec(file.spec, file.name, settings, is_operator=caller.is_operator)
    check_owner(db, file.spec.key, reuse=reuse_key)
    check_allowed(db, file.spec)


def _check_model(db: Database, caller: Caller, spec: KbSpec) -> None:
    """Raise UnknownModel for a model that the caller may not name.

    One that is not bundled is a folder of this machine, and opening it may run code that lies there.
    """
    model = spec.embedding.model
    named = limits_of_anybody(db, spec.tenant).models or ()
    if not (caller.is_operator or is_bundled(model) or model in named):
        remedy = "with a key, allowed are those that are bundled, and what the tenant's plan lists under limits.models"
        raise UnknownModel(model, remedy)


def _require_distinct(files: Sequence[_KbFile]) -> None:
    seen: dict[KbKey, str] = {}
    for file in files:
        if file.spec.key in seen:
            problem = Problem("tenant, kb", str(file.spec.key), f"{seen[file.spec.key]} describes the same KB")
            raise InvalidSpec(file.name, [problem])
        seen[file.spec.key] = file.name


def _warnings(settings: Settings, db: Database, spec: KbSpec) -> Iterator[str]:
    languages = [*spec.languages, *_found_languages(db, spec.key)]
    return chain(language_warnings(spec.embedding.model, languages), source_warnings(spec, settings))


def _found_languages(db: Database, key: KbKey) -> list[str]:
    """Return the languages of the live version's documents."""
    try:
        return list(live_manifest(db, key).content.languages)
    except NoLiveVersion:
        return []
