"""Opens and checks the sources that a KB file names, by the operator's settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from kb_pipeline.cron import next_tick
from kb_pipeline.embed.models import check_model
from kb_pipeline.errors import InvalidSpec
from kb_pipeline.fetch.registry import SOURCE_TYPES
from kb_pipeline.fetch.revisit import RevisitPolicy
from kb_pipeline.fetch.source import Source
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec, Schedule


def open_sources(spec: KbSpec, settings: Settings, erased: Sequence[str] = (), *, is_operator: bool) -> list[Source]:
    """Return the sources of a KB, ready to be fetched.

    Args:
        spec: the KB.
        settings: the operator's.
        erased: ids of documents that must not be fetched.
        is_operator: whether the operator applied the file: a tenant's API key may name less.
    """
    return [
        SOURCE_TYPES[source.type].open_source(source, settings, erased, is_operator=is_operator)
        for source in spec.sources
    ]


def check_spec(spec: KbSpec, file: str, settings: Settings, *, is_operator: bool) -> None:
    """Check what cannot be seen from the file alone: the model, and each source by the rules of its type.

    Raises:
        UnknownModel: there is no such model, or (ModelNeedsExtra) what it needs is not installed.
        DeviceUnavailable: the model runs on the CPU only.
        InvalidSpec: a source cannot be fetched as described, or names what the caller may not name.
    """
    check_model(spec.embedding.model, spec.embedding.device)
    problems = [
        replace(
            problem,
            field=f"sources.{number}.{problem.field}",
            given=spec.redact(problem.given),
            suggestion=spec.redact(problem.suggestion),
        )
        for number, source in enumerate(spec.sources)
        for problem in SOURCE_TYPES[source.type].check(source, settings, is_operator=is_operator)
    ]
    if problems:
        raise InvalidSpec(file, problems)


def source_warnings(spec: KbSpec, settings: Settings) -> Iterator[str]:
    """Yield warnings about the sources, each sentence once."""
    yield from dict.fromkeys(
        warning
        for source in spec.sources
        for warning in SOURCE_TYPES[source.type].warnings(source, settings, spec.redact)
    )


def origins(spec: KbSpec) -> dict[str, str]:
    """Return where each source starts, by its name, without what variables gave."""
    return {source.name: spec.redact(SOURCE_TYPES[source.type].origin(source)) for source in spec.sources}


def recheck_rules(schedule: Schedule | None, *, retry: bool) -> RevisitPolicy:
    """Return the policy by which known pages are requested again; with `retry`, failed pages are requested now."""
    if schedule is None or not schedule.adaptive:
        return RevisitPolicy(retry)
    now = datetime.now(UTC)
    until_next = next_tick(schedule.cron, schedule.timezone, now) - now
    return RevisitPolicy(retry, max_age_s=schedule.max_age, next_refresh_s=until_next.total_seconds())
