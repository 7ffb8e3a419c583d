"""`kb apply`: KB files become entries of the catalogue and partitions of Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kb_pipeline.cli.output import warn
from kb_pipeline.cli.session import is_operator, own_path, require_own
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import apply_spec, check_owner
from kb_pipeline.control.metering.limits import check_allowed
from kb_pipeline.control.tenancy.plans import limits_of_anybody
from kb_pipeline.control.tenancy.secrets import variables_of
from kb_pipeline.embed.models import is_bundled
from kb_pipeline.errors import InvalidSpec, NoLiveVersion, Problem, UnknownModel
from kb_pipeline.model import KbKey
from kb_pipeline.operations.refresh import language_warnings
from kb_pipeline.operations.source_rules import check_spec, source_warnings
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec, load_spec


def apply_files(
    settings: Settings, db: Database, files: Sequence[Path], *, reuse: bool = False
) -> list[dict[str, Any]]:
    """Validate every file, then apply them all; raises InvalidSpec, UnknownModel or QuotaExceeded before that."""
    loaded = [
        load_spec(path, lambda tenant, names: _variables_of(settings, db, tenant, names), own_path) for path in files
    ]
    _check_distinct(files, [spec for spec, _ in loaded])
    for path, (spec, _) in zip(files, loaded, strict=True):
        require_own(spec.tenant)
        _check_model(db, spec)
        check_spec(spec, str(path), settings, is_operator=is_operator())
        check_owner(db, spec.key, reuse=reuse)
        check_allowed(db, spec)
    applied = [
        {"kb": str(spec.key), "action": apply_spec(db, spec, yaml, settings.actor, reuse=reuse)}
        for spec, yaml in loaded
    ]
    _add_partitions(settings, [spec.key for spec, _ in loaded])
    for spec, _ in loaded:
        for message in language_warnings(spec.embedding.model, [*spec.languages, *_found_languages(db, spec.key)]):
            warn(f"{spec.key}: {message}")
        for message in source_warnings(spec, settings):
            warn(f"{spec.key}: {message}")
    return applied


def _variables_of(settings: Settings, db: Database, tenant: str, names: frozenset[str]) -> dict[str, str]:
    require_own(tenant)  # before anything of another tenant's is looked at
    return variables_of(settings, db, tenant, names)


def _check_model(db: Database, spec: KbSpec) -> None:
    """A model that is not bundled is a folder of this machine, and to open one may run what lies in it."""
    model, named = spec.embedding.model, limits_of_anybody(db, spec.tenant).models or ()
    if not (is_operator() or is_bundled(model) or model in named):
        remedy = "with a key, allowed are those that are bundled, and what the tenant's plan lists under limits.models"
        raise UnknownModel(model, remedy)


def _check_distinct(files: Sequence[Path], specs: Sequence[KbSpec]) -> None:
    seen: dict[KbKey, Path] = {}
    for path, spec in zip(files, specs, strict=True):
        if spec.key in seen:
            problem = Problem("tenant, kb", str(spec.key), f"{seen[spec.key]} describes the same KB")
            raise InvalidSpec(str(path), [problem])
        seen[spec.key] = path


def _add_partitions(settings: Settings, keys: Sequence[KbKey]) -> None:
    """So that `dagster` commands and the web UI know the KB at once, also where no sensor runs."""
    from kb_pipeline.defs.instance import open_instance, prepare_pools
    from kb_pipeline.defs.partitions import add_partition

    with open_instance(settings) as instance:
        prepare_pools(instance)
        for key in keys:
            add_partition(instance, key)


def _found_languages(db: Database, key: KbKey) -> list[str]:
    """The languages of the live version's documents."""
    from kb_pipeline.control.kbs.versions import live_manifest

    try:
        return list(live_manifest(db, key).content.languages)
    except NoLiveVersion:
        return []
