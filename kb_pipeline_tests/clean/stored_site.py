"""A site whose pages are stored as a crawl would have stored them, cleaned by the stage itself, without a network."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kb_pipeline.clean.refresh import refresh_documents
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.model import KbKey, StageReport, document_id
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES, kept_documents

ORIGIN = "https://site.test"
_WORDS = [
    "apple",
    "barrel",
    "cellar",
    "damson",
    "elder",
    "frost",
    "garden",
    "hedge",
    "ivory",
    "juniper",
    "kettle",
    "ladder",
    "meadow",
    "nettle",
    "orchard",
    "parsnip",
    "quince",
    "russet",
    "shelter",
    "thistle",
    "umber",
    "vinegar",
    "walnut",
    "yarrow",
    "zinnia",
    "amber",
    "bramble",
    "copper",
    "dahlia",
    "ember",
    "fennel",
    "ginger",
    "hazel",
]


class StoredSite:
    """Pages of the source `site` by path, each put with its bytes."""

    def __init__(self, data_dir: Path) -> None:
        self.store = KbStore(KbPaths(data_dir, KbKey("acme", "site")))
        self._pages = self.store.tables.open_or_create(PAGES, pages_schema())
        self._segments = 0

    def put(self, pages: Mapping[str, str], *, depth: int = 1, content_type: str = "text/html") -> None:
        """Store what a fetch brought; pages with the same path are replaced."""
        rows: list[dict[str, Any]] = [
            {
                "key": ORIGIN + path,
                "url": ORIGIN + path,
                "content_type": content_type,
                "sha256": hashlib.sha256(body.encode()).hexdigest(),
                "fetched_at": datetime(2026, 11, 29, tzinfo=UTC),
                "body": body.encode(),
            }
            for path, body in pages.items()
        ]
        self._segments += 1
        segment = f"{self._segments}.parquet"
        self.store.paths.raw.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), self.store.paths.raw / segment)
        named = {"source": "site", "outcome": "fetched", "segment": segment, "depth": depth}
        stored = [
            row | named | {"page_id": document_id("site", row["key"]), "position": position}
            for position, row in enumerate(rows)
        ]
        self._pages.upsert(pa.Table.from_pylist(stored, schema=pages_schema()))

    def remove(self, paths: Iterable[str]) -> None:
        """Take pages away, as a fetch does that proved them gone."""
        self._pages.delete("page_id", [document_id("site", ORIGIN + path) for path in paths])

    def refresh(self, *, keep_views: bool = False) -> StageReport:
        rules = CleaningRules(workers=1, keep_views=("site",) if keep_views else ())
        return refresh_documents(self.store, rules, "run", lambda done, total: None)

    def documents(self) -> set[str]:
        """The paths of the documents that readers see."""
        table = self.store.tables.open(DOCUMENTS)
        keys = table.read_columns(["key"], kept_documents(table.schema.names))["key"]
        return {key.removeprefix(ORIGIN) for key in keys}

    def left_out(self) -> dict[str, str]:
        """The reason of each path that is left out."""
        rows = self.store.tables.open(DOCUMENTS).read_columns(["key", "left_out"], "left_out IS NOT NULL")
        return {key.removeprefix(ORIGIN): reason for key, reason in rows.iter_rows()}

    def text(self, path: str) -> str | None:
        where = f"key = '{ORIGIN + path}'"
        return next(iter(self.store.tables.open(DOCUMENTS).read_columns(["markdown"], where)["markdown"]), None)


def page(title: str, *parts: str, head: str = "", nav: str = "") -> str:
    """A page with a title, a heading and parts, each HTML."""
    body = "".join(parts)
    return (
        f"<!doctype html><html lang=en><head><title>{title}</title>{head}</head><body>{nav}"
        f"<main><h1>{title}</h1>{body}</main></body></html>"
    )


def link(path: str, label: object) -> str:
    return f'<a href="{path}">{label}</a> '


def listing(rows: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{row}</li>" for row in rows) + "</ul>"


def title(seed: object) -> str:
    return " ".join(random.Random(f"title {seed}").sample(_WORDS, 4)).capitalize()


def prose(seed: object, words: int = 40) -> str:
    """A paragraph that no other seed gives."""
    chosen = random.Random(f"prose {seed}")
    return "<p>" + " ".join(chosen.choice(_WORDS) for _ in range(words)) + ".</p>"
