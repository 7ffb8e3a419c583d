"""Estimates what a first refresh of a draft takes: from what the site names, a sample of its pages, and measured rates.

Each figure is a range with how it was obtained: between `low` and `high` it is expected to lie, not sure to.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Usage
from kb_pipeline.control.kbs.drafts import DraftRecord, note_minutes
from kb_pipeline.control.tenancy.plans import limits_of_anybody
from kb_pipeline.errors import SiteUnreachable
from kb_pipeline.fetch.web.survey import survey_site
from kb_pipeline.model import Record
from kb_pipeline.operations.apply import check_files
from kb_pipeline.operations.authorization import Caller
from kb_pipeline.operations.draft_preview import preview_spec
from kb_pipeline.operations.drafts import text_of
from kb_pipeline.settings import Settings
from kb_pipeline.spec.sources import Source, WebSource

_SAMPLE = 5
_ROOM = 1.25
"""So many times the pages that are named: sites grow, and sitemaps leave some out."""
_Z = 1.96
"""Of a normal distribution: 95 % of it lie within so many standard deviations."""
_LEAST_ERROR, _MOST_ERROR = 0.15, 0.9
_TOKENS_PER_S = 5_000.0
"""Embedded on two cores, where this installation has embedded nothing yet: benchmarks/, within a factor of three."""
_RATE_ERROR = 3.0
_PAGES_PER_S = 20.0
"""Cleaned and chunked on two cores."""
_OVERHEAD_S = 10.0
"""Starting a run, indexing, checking and publishing a small KB."""


@dataclass(frozen=True, slots=True)
class Range(Record):
    """A figure that is not known exactly."""

    low: float
    expected: float
    high: float
    how: str
    """How it was obtained."""

    def times(self, other: Range, how: str) -> Range:
        """Return the product of two."""
        return Range(self.low * other.low, self.expected * other.expected, self.high * other.high, how)


@dataclass(frozen=True, slots=True)
class DraftEstimate(Record):
    """What a first refresh takes."""

    pages: Range
    bytes: Range
    tokens: Range
    """That are embedded."""
    cost: Range
    """In the currency of the plan's prices."""
    minutes: Range
    sampled_pages: int


def estimate_draft(settings: Settings, db: Database, caller: Caller, draft: DraftRecord) -> DraftEstimate:
    """Look at each source of a draft, fetch a few pages, and say what a first refresh takes.

    Raises:
        InvalidSpec, UnknownModel, QuotaExceeded: the draft is not valid.
        SourceFailed: no source gave anything.
    """
    (file,) = check_files(settings, db, caller, [text_of(draft)])
    spec = file.spec
    counted = [_count(source, settings) for source in spec.sources]
    pages = _sum([pages for pages, _ in counted], "; ".join(pages.how for pages, _ in counted))
    sample = preview_spec(
        settings, db, spec, _SAMPLE, is_operator=caller.is_operator, client=f"estimate-{draft.id}"
    )  # fmt: skip
    sampled = len(sample.pages)
    how = f"the mean of {sampled} pages"
    sizes = [len((page.markdown or "").encode()) for page in sample.pages]
    mean_bytes = sample.fetched_bytes / max(1, sampled) or float(statistics.fmean(sizes or [0]))
    size = _spread([float(each) for each in sizes], f"bytes a page: {how}")
    ratio = mean_bytes / size.expected if size.expected else 1.0
    size = Range(size.low * ratio, size.expected * ratio, size.high * ratio, size.how)
    tokens_a_page = _spread([float(sum(c.tokens for c in page.chunks)) for page in sample.pages], f"tokens: {how}")
    tokens = pages.times(tokens_a_page, f"{tokens_a_page.how}, times pages")
    model = spec.embedding.model
    price = limits_of_anybody(db, spec.tenant).prices.get(model, 0.0) / 1e6
    cost = Range(
        tokens.low * price, tokens.expected * price, tokens.high * price,
        f"tokens at the plan's price of {price * 1e6:g} a million for {model}",
    )  # fmt: skip
    minutes = _minutes(counted, pages, tokens, _embedding_rate(db, spec.tenant, model))
    note_minutes(db, draft.tenant, draft.id, draft.body, minutes.expected)
    return DraftEstimate(pages, pages.times(size, size.how), tokens, cost, minutes, sampled)


def _count(source: Source, settings: Settings) -> tuple[Range, float]:
    """Return how many pages a source has, and the seconds between two of its requests."""
    if not isinstance(source, WebSource):
        most = source.max_files
        return Range(1, math.sqrt(most), most, f"{source.name}: up to max_files, {most:,}"), 0.0
    url, most = str(source.start_urls[0]), source.max_pages
    try:
        survey = survey_site(url, settings)
    except SiteUnreachable:
        return Range(0, 1, most, f"{source.name}: its first page cannot be fetched now"), source.delay_s
    named = survey.named_below if source.scope == "prefix" else survey.named_pages
    pause = max(source.delay_s, survey.crawl_delay_s)
    filtered = ", before include and exclude" if source.include or source.exclude else ""
    if named and source.sitemap != "off":
        low = 1 if filtered else min(named, most)
        told = f"{source.name}: sitemaps name {named:,} pages{filtered}, at most {most:,}"
        return Range(low, min(named, most), min(math.ceil(named * _ROOM), most), told), pause
    linked = min(survey.linked_pages + 1, most)
    told = f"{source.name}: the first page links to {survey.linked_pages:,} pages{filtered}, at most {most:,}"
    return Range(1 if filtered else linked, math.sqrt(linked * most), most, told), pause


def _sum(ranges: Sequence[Range], how: str) -> Range:
    lows, middles, highs = zip(*((each.low, each.expected, each.high) for each in ranges), strict=True)
    return Range(sum(lows), sum(middles), sum(highs), how)


def _spread(values: Sequence[float], how: str) -> Range:
    """Return the mean of a sample, with the range in which that of all lies in 95 of 100 cases, about."""
    if not values:
        return Range(0, 0, 0, how)
    mean, error = statistics.fmean(values), _MOST_ERROR
    if len(values) > 1 and mean:
        error = _Z * statistics.stdev(values) / math.sqrt(len(values)) / mean
    error = min(max(error, _LEAST_ERROR), _MOST_ERROR)
    return Range(mean * (1 - error), mean, mean * (1 + error), how)


def _embedding_rate(db: Database, tenant: str, model: str) -> Range:
    """Return the tokens a second that the tenant's refreshes have embedded."""
    of_stage = select(func.sum(Usage.tokens), func.sum(Usage.seconds)).where(Usage.operation == "embed")
    with db.read(tenant) as session:
        tokens = session.execute(of_stage.where(Usage.model == model)).one()[0]
        seconds = session.execute(of_stage).one()[1]
    if tokens and seconds and float(tokens) > 10_000:
        rate = float(tokens) / float(seconds)
        return Range(rate / 1.5, rate, rate * 1.5, f"{rate:,.0f} tokens a second, as measured here")
    return Range(
        _TOKENS_PER_S / _RATE_ERROR, _TOKENS_PER_S, _TOKENS_PER_S * _RATE_ERROR,
        f"{_TOKENS_PER_S:,.0f} tokens a second, as on two cores; nothing was measured here yet",
    )  # fmt: skip


def _minutes(counted: Sequence[tuple[Range, float]], pages: Range, tokens: Range, rate: Range) -> Range:
    fetching = [sum(getattr(each, end) * pause for each, pause in counted) for end in ("low", "expected", "high")]
    low = fetching[0] + pages.low / _PAGES_PER_S + tokens.low / rate.high
    expected = fetching[1] + pages.expected / _PAGES_PER_S + tokens.expected / rate.expected + _OVERHEAD_S
    high = fetching[2] + pages.high / _PAGES_PER_S + tokens.high / rate.low + 2 * _OVERHEAD_S
    return Range(low / 60, expected / 60, high / 60, f"the pauses between requests, and {rate.how}")
