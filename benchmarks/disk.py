"""Compares bytes on disk after many refreshes of 1 %, with five versions retained, to a fresh build of the same pages.

Pages are written as the fetch stage writes them; cleaning, chunking, embedding, building, publishing and tidying are
the real ones. Only the model is not: its vectors are random, seeded by the text's hash, since their meaning does not
change their size. A refresh replaces the whole text of each page that it changes, which leaves the most garbage.
Garbage collection gives readers no grace period, and collects the cache of vectors after every twelfth refresh: once a
night, at one refresh in two hours.

Run it with: python -m benchmarks.disk [--refreshes 50] [--pages 1000] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.chunk.refresh import refresh_chunks
from kb_pipeline.chunk.rules import ChunkingRules
from kb_pipeline.chunk.split import embedding_text
from kb_pipeline.clean.refresh import refresh_documents
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.control.coordination.leases import hold_lease, release_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import versions
from kb_pipeline.control.kbs.catalog import apply_spec
from kb_pipeline.embed.models import describe_model, model_fingerprint
from kb_pipeline.embed.refresh import refresh_vectors, vectors_table
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.embed.vectors import check_vectors
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.fetch.journal import segments
from kb_pipeline.fetch.web.crawl.journal import JournalWriter, Row
from kb_pipeline.maintenance.garbage_collection import tidy_tables
from kb_pipeline.model import EmbeddingModel, document_id
from kb_pipeline.operations.housekeeping import tidy_kb, tidy_vectors
from kb_pipeline.publish.candidate import Recipe, build_candidate, pin_candidate
from kb_pipeline.publish.integrity_gates import ChunkText
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline.store.durable_files import folder_bytes
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.raw_segments import commit_segments
from kb_pipeline.store.stage_tables import PAGES

CEILING = 1.5
"""The largest size of the folder after 50 refreshes of 1 %, as a multiple of a fresh build's."""

_MODEL = "all-MiniLM-L6-v2"
_KEEP = 5
_CHANGED = 0.01
_NIGHT = 12
_WORDS_A_PAGE = 1500
_SPEC = f"""
tenant: acme
kb: disk
sources: [{{name: site, type: web, start_urls: ["http://x.example/"]}}]
chunking: {{max_tokens: 256}}
embedding: {{model: {_MODEL}}}
retention: {{versions: {_KEEP}}}
"""


class DrawnVectors:
    """An embedder whose vectors are random, seeded by the text's hash."""

    name, fingerprint = _MODEL, model_fingerprint(_MODEL)
    dimension, max_tokens, languages = describe_model(_MODEL).dimension, 256, None

    def embed_passages(self, texts: list[str]) -> NDArray[np.float32]:
        """Return one unit vector a text."""
        vectors = np.stack([self.embed_query(text) for text in texts])
        check_vectors(vectors, len(texts), self.dimension)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of one text."""
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
        vector = np.random.default_rng(seed).normal(size=self.dimension).astype(np.float32)
        return vector / np.linalg.norm(vector)

    def embed_query_with(self, model: EmbeddingModel, text: str) -> NDArray[np.float32]:
        """Return the vector of one text, whatever the model."""
        del model
        return self.embed_query(text)

    def embed_chunks(self, chunks: Sequence[ChunkText]) -> NDArray[np.float32]:
        """Return the vectors of chunks, as the index stores them."""
        return self.embed_passages([embedding_text(chunk.title, chunk.headings, chunk.text) for chunk in chunks])


class Home:
    """A control plane and the data of one tenant with one KB."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'control.db'}"
        self.settings = Settings(folder, url, folder / "data", "", (), "text")
        self.db, self.spec = Database(url), parse_spec(_SPEC, "benchmark")
        apply_spec(self.db, self.spec, _SPEC, "benchmark")
        self.store = KbStore(KbPaths(self.settings.data_dir, self.spec.key))
        self.model = EmbeddingModel(_MODEL, model_fingerprint(_MODEL), describe_model(_MODEL).dimension)
        self.embedder = DrawnVectors()
        self.live: Manifest | None = None

    def fetch(self, pages: dict[str, str]) -> None:
        """Write raw segments and rows of `pages` as a crawl of these pages does."""
        import pyarrow as pa

        now, journal = datetime.now(UTC), self.store.paths.journal("site")
        table = self.store.tables.open_or_create(PAGES, pages_schema())
        writer = JournalWriter(journal)
        rows = [_fetched(key, text, now) for key, text in pages.items()]
        for row in rows:
            writer.append(row)
        writer.close()
        prefix, places = f"site-{time.time_ns():x}", _places(segments(journal))
        merged = [_page(row, f"{prefix}-{places[row.key][0]}", places[row.key][1]) for row in rows]
        table.upsert(pa.Table.from_pylist(merged, schema=pages_schema()))
        commit_segments(journal, self.store.paths.raw, prefix, {row["segment"] for row in merged})

    def refresh(self, run_id: str) -> dict[str, float]:
        """Run every stage after the fetch, publishing and garbage collection; return the seconds of each."""
        seconds: dict[str, float] = {}

        def timed(name: str, work: Callable[[], object]) -> None:
            started = time.perf_counter()
            work()
            seconds[name] = time.perf_counter() - started

        store, quiet = self.store, _quiet
        timed("clean", lambda: refresh_documents(store, CleaningRules(), run_id, quiet))
        timed("chunk", lambda: refresh_chunks(store, ChunkingRules(), open_tokenizer, quiet))
        timed("embed", lambda: refresh_vectors(store, self.model, lambda: self.embedder, embedding_text, quiet))
        timed("tidy tables", lambda: tidy_tables(store, self.live))
        timed("index", lambda: self._publish(run_id))
        timed("tidy", lambda: self._tidy(run_id))
        return seconds

    def tidy_cache(self) -> None:
        """Clean the tenant's cache as the nightly housekeeping does."""
        tidy_vectors(self.settings, self.db, [self.spec.key], "night", timedelta(0), timedelta(0))

    def bytes_by_part(self) -> dict[str, int]:
        """Return the bytes of each part of the tenant's folder."""
        paths = self.store.paths
        tables = {folder.stem.partition("_")[0]: folder_bytes(folder) for folder in paths.lance.glob("*.lance")}
        return {"raw": folder_bytes(paths.raw), **dict(sorted(tables.items())), "cache": folder_bytes(paths.vectors)}

    def _publish(self, run_id: str) -> None:
        recipe = Recipe({"clean": CleaningRules().as_json(), "chunk": ChunkingRules().as_json()}, {})
        candidate = build_candidate(
            self.store, self.spec, self.model, vectors_table(self.store, self.model), self.live, self.embedder, recipe,
            run_id, _quiet,
        )  # fmt: skip
        failed = [gate for gate in candidate.gates if not gate.passed]
        if failed or candidate.unchanged:
            raise SystemExit(f"the benchmark's own pages made no version: {failed}")
        with hold_lease(self.db, self.spec.key, run_id) as lease:
            number = versions.reserve_version(self.db, lease, run_id)
            self.live = pin_candidate(self.store, candidate.manifest, number, self.live)
            versions.record_verdict(self.db, lease, number, "candidate", self.live)
            versions.publish_version(self.db, lease, number)

    def _tidy(self, run_id: str) -> None:
        with hold_lease(self.db, self.spec.key, run_id) as lease:
            tidy_kb(self.store, self.db, lease, _KEEP, self.spec.embedding.model, timedelta(0))
            release_lease(self.db, lease)


def _quiet(done: int, total: int | None) -> None:
    """Report no progress."""


def _fetched(key: str, text: str, at: datetime) -> Row:
    body = text.encode()
    sha256 = hashlib.sha256(body).hexdigest()
    return Row(
        key=key, url=key, outcome="fetched", fetched_at=at, depth=1, attempts=1, status=200,
        etag=f'"{sha256[:16]}"', content_type="text/html; charset=utf-8", sha256=sha256, body=body,
    )  # fmt: skip


def _places(paths: Sequence[Path]) -> dict[str, tuple[str, int]]:
    import pyarrow.parquet as pq

    keys = ((path.name, pq.ParquetFile(path).read(columns=["key"])["key"].to_pylist()) for path in paths)
    return {key: (name, position) for name, its in keys for position, key in enumerate(its)}


def _page(row: Row, segment: str, position: int) -> dict[str, Any]:
    kept = {name: getattr(row, name) for name in pages_schema().names if hasattr(row, name)}
    place = {"page_id": document_id("site", row.key), "source": "site", "segment": segment, "position": position}
    return kept | place | {"body_run_id": "benchmark"}


def make_page(number: int, revision: int) -> str:
    """Return an HTML page of random words with the frequencies of a natural language."""
    draw = random.Random(f"{number}-{revision}")
    vocabulary = _vocabulary()
    # Zipf: the word of rank r comes with a probability of about 1 / r.
    words = [vocabulary[int(len(vocabulary) ** draw.random()) - 1] for _ in range(_WORDS_A_PAGE)]
    sections = [words[start : start + 150] for start in range(0, len(words), 150)]
    body = "".join(f"<h2>{' '.join(s[:4])}</h2><p>{_sentences(s)}</p>" for s in sections)
    navigation = "".join(f'<li><a href="/section/{n}">{vocabulary[n]}</a></li>' for n in range(40))
    title = f"Page {number} {' '.join(words[:3])}"
    return (
        f"<html lang='en'><head><title>{title}</title></head><body><nav><ul>{navigation}</ul></nav>"
        f"<main><article><h1>{title}</h1>{body}</article></main></body></html>"
    )


def _sentences(words: Sequence[str]) -> str:
    return " ".join(" ".join(words[n : n + 12]).capitalize() + "." for n in range(0, len(words), 12))


@cache
def _vocabulary() -> list[str]:
    draw = random.Random(7)
    return ["".join(draw.choices("etaoinshrdlucmfwypvbgk", k=draw.randint(2, 10))) for _ in range(20_000)]


def measure(refreshes: int, pages: int, folder: Path) -> dict[str, Any]:
    """Refresh many times in one folder, then build the same state in another."""
    home, revisions = Home(_made(folder / "refreshed")), dict.fromkeys(range(pages), 0)
    home.fetch({_key(number): make_page(number, 0) for number in revisions})
    home.refresh("first")
    draw, seconds = random.Random(11), []
    for turn in range(1, refreshes + 1):
        changed = draw.sample(range(pages), max(1, int(pages * _CHANGED)))
        revisions |= dict.fromkeys(changed, turn)
        home.fetch({_key(number): make_page(number, turn) for number in changed})
        seconds.append(home.refresh(f"run-{turn}"))
        if turn % _NIGHT == 0:
            home.tidy_cache()
    fresh = Home(_made(folder / "fresh"))
    fresh.fetch({_key(number): make_page(number, revision) for number, revision in revisions.items()})
    fresh.refresh("first")
    after, before = home.bytes_by_part(), fresh.bytes_by_part()
    return {
        "refreshes": refreshes,
        "pages": pages,
        "versions_kept": _KEEP,
        "bytes": after,
        "fresh_bytes": before,
        "ratio": sum(after.values()) / sum(before.values()),
        "ceiling": CEILING,
        "seconds": {name: statistics.median(turn[name] for turn in seconds) for name in seconds[0]},
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _key(number: int) -> str:
    return f"http://x.example/{number}"


def main() -> int:
    """Print the comparison; return 1 when the ratio is above the ceiling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--refreshes", type=int, default=50)
    parser.add_argument("--pages", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options.refreshes, options.pages, Path(folder))
    if options.json:
        print(json.dumps(result))
    else:
        for part, size in result["bytes"].items():
            fresh = result["fresh_bytes"][part]
            print(f"{part:12}{size / 1e6:10.1f} MB{fresh / 1e6:10.1f} MB fresh{size / fresh:8.2f}")
        for name, median in result["seconds"].items():
            print(f"{name:12}{median:10.2f} s a refresh")
        print(f"{'ratio':12}{result['ratio']:10.2f} (ceiling {CEILING})")
    return 0 if result["ratio"] <= CEILING else 1


if __name__ == "__main__":
    sys.exit(main())
