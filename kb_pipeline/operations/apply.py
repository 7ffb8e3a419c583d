"""Applies KB files: each becomes an entry of the catalog and a partition of Dagster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import Action, KbRecord, check_owner, get_kb, store_spec
from kb_pipeline.control.kbs.versions import live_manifest
from kb_pipeline.control.metering.limits import check_allowed
from kb_pipeline.control.runs.refreshes import newest_account
from kb_pipeline.control.tenancy.plans import limits_of_anybody
from kb_pipeline.control.tenancy.secrets import variables_of
from kb_pipeline.embed.models import is_bundled
from kb_pipeline.errors import (
    InvalidSpec,
    NoLiveVersion,
    Problem,
    SecretUnreadable,
    UnknownKb,
    UnknownModel,
    UsageError,
)
from kb_pipeline.model import KbKey
from kb_pipeline.operations.authorization import Caller
from kb_pipeline.operations.orchestrator import Orchestrator
from kb_pipeline.operations.run_summary import language_warnings
from kb_pipeline.operations.source_rules import check_spec, source_warnings
from kb_pipeline.operations.spec_changes import FieldChange, changed_fields, effects_of
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec, LoadedSpec, load_spec, load_text, other_kind, written_fields
from kb_pipeline.store.manifest import Manifest

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AppliedKb:
    """What applying a KB file did, or would do."""

    kb: KbKey
    action: Action
    warnings: tuple[str, ...] = ()
    """What its owner should know though the file is valid, a sentence each."""
    changes: tuple[FieldChange, ...] = ()
    """What the file says otherwise than the one that was in force; all of it for a new KB."""
    effects: tuple[str, ...] = ()
    """What the next refresh does because of it, a sentence each."""
    is_dry: bool = False
    """Whether it was only asked what would be done."""

    def as_json(self) -> dict[str, Any]:
        """Return the result as `kb apply --json` prints it, without warnings."""
        done: dict[str, Any] = {"kb": str(self.kb), "action": self.action}
        if not self.is_dry:
            return done
        changes = [each.as_json() for each in self.changes]
        return done | {"dry_run": True, "changes": changes, "effects": list(self.effects)}


@dataclass(frozen=True, slots=True)
class KbText:
    """The text of a KB file that does not come from a path."""

    yaml: str
    name: str = "the KB file"
    """What errors call it."""


def apply_files(
    settings: Settings,
    db: Database,
    caller: Caller,
    orchestrator: Orchestrator,
    files: Sequence[Path | KbText],
    *,
    reuse_key: bool = False,
    dry_run: bool = False,
) -> list[AppliedKb]:
    """Validate every file, then create or update the KBs that they describe.

    Args:
        settings: of the installation.
        db: its control plane.
        caller: who applies them.
        orchestrator: gets a partition for each KB at once, also if no sensor runs.
        files: the KB files, by path or as text; a folder stands for those in it.
        reuse_key: whether the key of a deleted tenant or KB may be taken.
        dry_run: whether to only say what would be done.

    Raises:
        NotAllowed: the caller may not name the path of a file, or the tenant or KB in it.
        InvalidSpec, UnknownModel, QuotaExceeded, KeyRetired, TenantInactive: nothing was applied.
        UsageError: a folder without KB files.
    """
    loaded = check_files(settings, db, caller, files, reuse_key=reuse_key)
    planned = [_plan(settings, db, file, is_dry=dry_run) for file in loaded]
    if dry_run:
        return planned
    actions = [store_spec(db, file.spec, file.yaml, caller.actor) for file in loaded]
    orchestrator.add_partitions([file.spec.key for file in loaded])
    return [replace(plan, action=action) for plan, action in zip(planned, actions, strict=True)]


def check_files(
    settings: Settings, db: Database, caller: Caller, files: Sequence[Path | KbText], *, reuse_key: bool = False
) -> list[LoadedSpec]:
    """Read and validate every file as `apply_files` does, and change nothing; raises what that does."""
    loaded = [_load(settings, db, caller, path) for path in _files(settings, caller, files)]
    _require_distinct(loaded)
    for file in loaded:
        _check(settings, db, caller, file, reuse_key=reuse_key)
    return loaded


def plan_files(settings: Settings, db: Database, caller: Caller, files: Sequence[Path | KbText]) -> list[AppliedKb]:
    """Return what applying the files would do; raises what `apply_files` does."""
    return [_plan(settings, db, file, is_dry=True) for file in check_files(settings, db, caller, files)]


def _plan(settings: Settings, db: Database, file: LoadedSpec, *, is_dry: bool) -> AppliedKb:
    """Return what applying a file would do."""
    key, warnings = file.spec.key, tuple(_warnings(settings, db, file.spec))
    try:
        record = get_kb(db, key)
    except UnknownKb:
        changes, effects = changed_fields({}, file.file.body), effects_of(None, file.spec, None, None)
        return AppliedKb(key, "created", warnings, tuple(changes), tuple(effects), is_dry)
    if record.yaml == file.yaml:
        return AppliedKb(key, "unchanged", warnings, is_dry=is_dry)
    changes = changed_fields(written_fields(record.yaml), file.file.body)
    effects = _effects(settings, db, record, file.spec)
    return AppliedKb(key, "updated", warnings, tuple(changes), tuple(effects), is_dry)


def _effects(settings: Settings, db: Database, record: KbRecord, spec: KbSpec) -> Iterator[str]:
    try:
        before = record.read_spec(settings)
    except (InvalidSpec, SecretUnreadable) as error:
        yield f"what the next refresh does cannot be told, since the file in force cannot be read: {error}"
    else:
        live = _live_manifest(db, spec.key)
        yield from effects_of(before, spec, live.counts if live else None, newest_account(db, spec.key))


def _files(settings: Settings, caller: Caller, files: Sequence[Path | KbText]) -> Iterator[Path | KbText]:
    """Yield the files, and those of folders in the order of their names."""
    for file in files:
        if isinstance(file, Path) and caller.readable_path(file, settings).is_dir():
            yield from _files_of(file, lambda path: caller.readable_path(path, settings))
        else:
            yield file


def _files_of(folder: Path, may_read: Callable[[Path], object]) -> list[Path]:
    """Return the KB files of a folder: every YAML file but hidden ones, lists (of golden queries) and plans."""
    names = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.name[0] != ".")
    for path in names:
        may_read(path)  # it may be a link
    kinds = {path: other_kind(path) for path in names if path.is_file()}
    for path, kind in kinds.items():
        if kind is not None:
            _logger.info("%s is no KB file but %s: left alone", path, kind)
    if not (found := [path for path, kind in kinds.items() if kind is None]):
        raise UsageError(f"{folder}: no KB files (*.yaml, *.yml) in this folder")
    return found


def _load(settings: Settings, db: Database, caller: Caller, file: Path | KbText) -> LoadedSpec:
    def values_of(tenant: str, names: frozenset[str]) -> dict[str, str]:
        caller.require_tenant(tenant)  # before anything of another tenant's is looked at
        return variables_of(settings, db, tenant, names)

    if isinstance(file, KbText):
        return load_text(file.yaml, file.name, values_of)
    path = caller.readable_path(file, settings)
    return load_spec(path, values_of, lambda beside: caller.visible_path(beside, settings))


def _check(settings: Settings, db: Database, caller: Caller, file: LoadedSpec, *, reuse_key: bool) -> None:
    caller.require_kb(file.spec.key)
    _check_model(db, caller, file.spec)
    try:
        check_spec(file.spec, file.file.name, settings, is_operator=caller.is_operator)
    except InvalidSpec as error:
        raise file.file.locate(error) from None
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


def _require_distinct(files: Sequence[LoadedSpec]) -> None:
    seen: dict[KbKey, str] = {}
    for file in files:
        if file.spec.key in seen:
            problem = Problem("tenant, kb", str(file.spec.key), f"{seen[file.spec.key]} describes the same KB")
            raise file.file.invalid(file.file.located(problem, ("kb",)))
        seen[file.spec.key] = file.file.name


def _warnings(settings: Settings, db: Database, spec: KbSpec) -> Iterator[str]:
    languages = [*spec.languages, *_found_languages(db, spec.key)]
    return chain(language_warnings(spec.embedding.model, languages), source_warnings(spec, settings))


def _found_languages(db: Database, key: KbKey) -> list[str]:
    """Return the languages of the live version's documents."""
    live = _live_manifest(db, key)
    return list(live.content.languages) if live else []


def _live_manifest(db: Database, key: KbKey) -> Manifest | None:
    try:
        return live_manifest(db, key)
    except (NoLiveVersion, UnknownKb):
        return None
