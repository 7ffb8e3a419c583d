"""Proposes a first KB file for a site or a folder: one that works as it stands and is easy to edit."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from kb_pipeline.embed.models import describe_model
from kb_pipeline.errors import BrowserMissing, UsageError
from kb_pipeline.fetch.files import TEXT_SUFFIXES
from kb_pipeline.fetch.web.crawl.find_browser import find_browser
from kb_pipeline.fetch.web.survey import SiteSurvey, survey_site
from kb_pipeline.model import digest
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec
from kb_pipeline.urls import folder_of

DEFAULT_TENANT = "main"
_FEW_PAGES = 500
"""The limit where no sitemap says how many pages there are."""
_LIMITS = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
_ROOM = 1.25
"""So many times the pages that are named: sites grow, and sitemaps leave some out."""
_MOST_FILES = 20_000
"""Files of a folder that are looked at."""


@dataclass(frozen=True, slots=True)
class FirstFile:
    """A proposed KB file."""

    name: str
    """The name that it should have."""
    key: str
    """`tenant/kb`."""
    yaml: str
    found: tuple[str, ...]
    """What was found, and what was concluded from it, a sentence each."""


def propose_file(target: str, settings: Settings, tenant: str = DEFAULT_TENANT, kb: str | None = None) -> FirstFile:
    """Look at a site or a folder and propose a KB file.

    Args:
        target: a URL, or the path of a folder.
        settings: of the installation.
        tenant: whose KB it is to be.
        kb: its name; without it, after the host or the folder.

    Raises:
        SiteUnreachable: the site gives no page to begin with.
        UsageError: it is neither a URL nor a folder, or the folder holds nothing that can be read.
    """
    folder = Path(target).expanduser()
    if folder.is_dir():
        return _of_folder(folder.resolve(), tenant, kb)
    url = target if "://" in target else f"https://{target}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in target:
        raise UsageError(f"{target!r} is neither a URL such as https://docs.example.com/ nor a folder")
    return _of_site(survey_site(url, settings), settings, tenant, kb or _slug(_host_and_path(url)))


def _of_site(survey: SiteSurvey, settings: Settings, tenant: str, kb: str) -> FirstFile:
    folder = folder_of(survey.url)
    scope = "host" if folder == "/" else "prefix"
    named = survey.named_below if scope == "prefix" else survey.named_pages
    max_pages = _limit(named) if named else _FEW_PAGES
    delay_s = max(1.0, survey.crawl_delay_s)
    render = "auto" if survey.needs_scripts else "never"
    language = survey.language if survey.language and re.fullmatch(r"[a-z]{2,3}", survey.language) else None
    where = f"below {folder} of its host" if scope == "prefix" else "of its host"
    found = [f"{survey.url} answers, and robots.txt lets it be fetched"]
    if named:
        found.append(f"its sitemaps name {named:,} pages {where}: at most {max_pages:,} are fetched")
    else:
        linked = f"the first page links to {survey.linked_pages:,} pages"
        found.append(f"no sitemap names its pages, {linked}: at most {max_pages:,} are fetched, by following links")
    if survey.crawl_delay_s > 1:
        found.append(f"robots.txt asks for {survey.crawl_delay_s:g} s between two requests")
    found.append(f"fetching {max_pages:,} pages takes up to {_hours(max_pages * delay_s)}")
    if language:
        known = describe_model(KbSpec.model_fields["embedding"].default.model).languages
        is_known = known is None or language in known
        found.append(f"it is written in {language}" + ("" if is_known else ", which the default model does not know"))
    found += _script_notes(settings) if survey.needs_scripts else []
    lines = [
        _HEADER,
        f"tenant: {tenant}",
        f"kb: {kb}",
        *([f"languages: [{language}]"] if language else []),
        "sources:",
        "  - name: site",
        "    type: web",
        f"    start_urls: [{json.dumps(survey.url)}]",
        f"    scope: {scope:<16}  # host: all of the host; prefix: below the folder of the start URL",
        f"    max_pages: {max_pages}",
        f"    delay_s: {delay_s:g}",
        f"    render: {render:<15}  # auto: run the scripts of pages that are empty without them",
        '    # exclude: ["/archive/**"]  # paths that are of no use',
        *_schedule(f"{tenant}/{kb}"),
    ]
    return FirstFile(f"{kb}.yaml", f"{tenant}/{kb}", "\n".join(lines) + "\n", tuple(found))


def _script_notes(settings: Settings) -> Iterator[str]:
    yield "its first page is empty without its scripts: pages are rendered (render: auto)"
    try:
        find_browser(settings.browser)
    except BrowserMissing as missing:
        yield str(missing)


def _of_folder(folder: Path, tenant: str, kb: str | None) -> FirstFile:
    files = islice((path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)), _MOST_FILES)
    kinds = Counter(path.suffix.lower() for path in files if path.suffix.lower() in TEXT_SUFFIXES)
    if not kinds:
        raise UsageError(f"{folder} holds no file that can be read: HTML, text or Markdown")
    name = kb or _slug(folder.name)
    told = ", ".join(f"{count:,} *{suffix}" for suffix, count in kinds.most_common())
    globs = ", ".join(json.dumps(f"**/*{suffix}") for suffix in kinds)
    lines = [
        _HEADER,
        f"tenant: {tenant}",
        f"kb: {name}",
        "sources:",
        "  - name: files",
        "    type: files",
        f"    root: {json.dumps(str(folder))}",
        f"    paths: [{globs}]",
        *_schedule(f"{tenant}/{name}"),
    ]
    found = (f"{folder} holds {told}",)
    return FirstFile(f"{name}.yaml", f"{tenant}/{name}", "\n".join(lines) + "\n", found)


_HEADER = "# A knowledge base; every field: docs/kb-file.md, or kb schema for an editor."


def _schedule(key: str) -> list[str]:
    minute = int(digest("first-file", key), 16) % 60  # so that not all KBs begin at the same minute
    return ["schedule:", f'  cron: "{minute} 3 * * *"   # once a day', "  timezone: UTC"]


def _limit(named: int) -> int:
    wanted = math.ceil(named * _ROOM)
    return next((limit for limit in _LIMITS if limit >= wanted), _LIMITS[-1])


def _hours(seconds: float) -> str:
    return f"{math.ceil(seconds / 60)} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"


def _host_and_path(url: str) -> str:
    parts = urlsplit(url)
    return f"{(parts.hostname or '').removeprefix('www.')}{folder_of(url)}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or "kb"


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
