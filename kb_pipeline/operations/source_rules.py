"""What a KB file and the operator's settings ask of the crawler."""

from __future__ import annotations

from datetime import UTC, datetime

from kb_pipeline.cron import next_tick
from kb_pipeline.embed.models import describe_model
from kb_pipeline.errors import InvalidSpec, Problem
from kb_pipeline.fetch.revisit import RevisitPolicy
from kb_pipeline.fetch.web.crawl.find_browser import find_browser
from kb_pipeline.fetch.web.crawl.scope import glob_problem
from kb_pipeline.fetch.web.rules import CrawlLimits, CrawlRules
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec, Schedule, WebSource


def crawl_rules(source: WebSource, settings: Settings, erased: tuple[str, ...] = ()) -> CrawlRules:
    """Return the crawl rules by a source of the KB file and the operator's settings."""
    return CrawlRules(
        source=source.name,
        start_urls=tuple(source.start_urls),
        sitemap=source.sitemap if isinstance(source.sitemap, str) else tuple(source.sitemap),
        scope=source.scope,
        include=tuple(source.include),
        exclude=tuple(source.exclude),
        max_pages=source.max_pages,
        max_depth=source.max_depth,
        delay_s=source.delay_s,
        user_agent=settings.user_agent,
        allowed_networks=settings.allowed_networks,
        erased=erased,
        trust_lastmod=source.trust_lastmod,
        proxy=settings.proxy,
        render=source.render,
        browser=find_browser(settings.browser) if source.render != "never" else "",
        max_body_bytes=round(source.limits.body_mb * (1 << 20)),
        limits=CrawlLimits(**source.limits.model_dump(exclude={"body_mb"})),
    )


def check_spec(spec: KbSpec, file: str) -> None:
    """Check what needs more than the file: the model and the path globs; raises UnknownModel or InvalidSpec."""
    describe_model(spec.embedding.model)
    problems = [
        Problem(f"sources.{source.name}.{field}", repr(spec.redact(glob)), problem)
        for source in spec.sources
        for field in ("include", "exclude")
        for glob in getattr(source, field)
        if (problem := glob_problem(glob))
    ]
    if problems:
        raise InvalidSpec(file, problems)


def recheck_rules(schedule: Schedule | None, *, retry: bool) -> RevisitPolicy:
    """When pages that are known are asked for again; with `retry`, what failed is asked for now."""
    if schedule is None or not schedule.adaptive:
        return RevisitPolicy(retry)
    now = datetime.now(UTC)
    until_next = next_tick(schedule.cron, schedule.timezone, now) - now
    return RevisitPolicy(retry, schedule.max_age, until_next.total_seconds())
