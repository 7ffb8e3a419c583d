"""The links between the pages of one source: kept from one fetch to the next, with the distance of every URL.

The file has a row for each page that was read, and for each redirect: where it leads to. A refresh takes the links of
unchanged pages from here instead of parsing them, so that it meets every URL that a crawl of the whole site would.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kb_pipeline.store.durable_files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_DICTIONARY_BYTES = 64 << 20
"""How much of a column chunk's distinct values Parquet keeps once: all links, not the default of one MiB."""
UNREACHED = -1


@dataclass(frozen=True, slots=True)
class LinksOfPage:
    """Where one page leads to."""

    key: str
    sha256: str | None
    """Of the bytes that were read; None where none are kept (a redirect, a page that asks for noindex)."""
    links: Sequence[str]
    """Canonical URLs, in scope or not; of a redirect its target."""
    is_redirect: bool = False
    is_news: bool | None = None
    """Whether the page said something that no page before it said; None when it was not judged."""


def schema() -> pa.Schema:
    """Return the columns of the file."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            ("sha256", pa.string()),
            ("links", pa.list_(pa.string())),
            ("is_redirect", pa.bool_()),
            ("is_news", pa.bool_()),
        ]
    )


def read_rows(path: Path, columns: Collection[str] | None = None) -> pa.Table:
    """Return the rows of the file; none when it is missing or cannot be read, since every row can be made again.

    The links are dictionary-encoded: each distinct URL is in memory once.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [name for name in schema().names if columns is None or name in columns]
    try:
        # Not read_table, whose import of datasets takes longer than most refreshes read links.
        with pq.ParquetFile(path, read_dictionary=["links.list.element"]) as file:
            table = file.read(columns=wanted)
        table.validate(full=True)
        return table.select(wanted)
    except (OSError, pa.ArrowException, KeyError):
        return schema().empty_table().select(wanted)


def write_rows(path: Path, rows: pa.Table) -> None:
    """Replace the file."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, path.with_suffix(".tmp")) as file:
        pq.write_table(rows, file, compression="zstd", dictionary_pagesize_limit=_DICTIONARY_BYTES)


def add_rows(path: Path, pages: Iterable[LinksOfPage]) -> None:
    """Add pages to the file, in place of what it says of their keys."""
    import pyarrow as pa

    columns: dict[str, list[object]] = {name: [] for name in schema().names}
    for page in pages:
        for name, column in columns.items():
            column.append(getattr(page, name))
    if columns["key"]:
        added = pa.Table.from_pydict(columns, schema=schema())
        kept = rows_of(read_rows(path), added.column("key"), are_wanted=False).cast(schema())
        write_rows(path, pa.concat_tables([kept, added]))


def remove_rows(path: Path, keys: Collection[str]) -> int:
    """Remove pages from the file; return how many it had."""
    import pyarrow as pa

    rows = read_rows(path)
    left = rows_of(rows, pa.chunked_array([sorted(keys)], pa.string()), are_wanted=False)
    if left.num_rows < rows.num_rows:
        write_rows(path, left)
    return int(rows.num_rows - left.num_rows)


def rows_of(rows: pa.Table, keys: pa.ChunkedArray, *, are_wanted: bool) -> pa.Table:
    """Return the rows with these keys, or those with any other."""
    import pyarrow.compute as pc

    has_key = pc.is_in(rows.column("key"), value_set=keys)
    return rows.filter(has_key if are_wanted else pc.invert(has_key))


class LinkGraph:
    """The links as they were stored, and what the crawl under way has read since.

    URLs are known by their 64-bit hash: a link costs eight bytes while the crawl runs, four once it is stored.
    """

    def __init__(self, rows: pa.Table | None = None) -> None:
        self._stored = _StoredLinks(schema().empty_table() if rows is None else rows)
        self._read: dict[int, array[int]] = {}
        """By page read in this crawl: the hashes of its links."""
        self._redirects: set[int] = set()
        self._dull: set[int] = set()
        """Of the pages read in this crawl: those that redirect, and those that said nothing new."""
        self._removed: set[int] = set()
        self.changes = 0
        """How often anything was replaced or removed."""

    @property
    def has_stored(self) -> bool:
        """Whether an earlier crawl left any links."""
        return len(self._stored.hashes) > 0

    @classmethod
    def read(cls, path: Path) -> LinkGraph:
        """Return the links of the file, none when there is no such file."""
        return cls(read_rows(path))

    def has(self, url: str) -> bool:
        """Whether it is known where this page leads to."""
        return hash(url) in self._read or (self._stored.has(url) and hash(url) not in self._removed)

    def is_stored_redirect(self, url: str) -> bool:
        """Whether the page redirected when it was last asked for."""
        return hash(url) in self._stored.redirect_hashes

    def replace(
        self, url: str, links: Iterable[str], *, is_redirect: bool = False, is_news: bool | None = None
    ) -> None:
        """Set where a page leads to."""
        page, hashes = hash(url), array("q", map(hash, links))
        is_stored = page not in self._read and page not in self._removed
        if is_stored and self._stored.says(page, hashes, is_redirect=is_redirect, is_news=is_news):
            return
        self.changes += 1
        self._read[page] = hashes
        (self._redirects.add if is_redirect else self._redirects.discard)(page)
        (self._dull.add if is_news is False else self._dull.discard)(page)

    def remove(self, url: str) -> None:
        """Forget where a page leads to: it is not there any more, or not read any more."""
        if not self.has(url):
            return
        self.changes += 1
        self._read.pop(hash(url), None)
        self._removed.add(hash(url))

    def distances(self, seeds: Mapping[str, int] | Iterable[tuple[int, int]]) -> Distances:
        """Return how far each URL is from the seeds.

        Args:
            seeds: start URLs and pages of sitemaps, or their hashes, each with its depth.
        """
        import numpy as np

        pairs = [(hash(url), depth) for url, depth in seeds.items()] if isinstance(seeds, Mapping) else list(seeds)
        seed_hashes = np.fromiter((each for each, _ in pairs), np.int64, len(pairs))
        pages, read = self._links_read()
        nodes = np.unique(np.concatenate([self._stored.hashes, pages, read, seed_hashes]))
        stored = self._stored.edges(np.fromiter((*self._removed, *self._read), np.int64))
        node_of = nodes.searchsorted(self._stored.hashes)
        sources = np.concatenate([node_of[stored.sources], nodes.searchsorted(pages)])
        targets = np.concatenate([node_of[stored.targets], nodes.searchsorted(read)])
        redirects = np.concatenate([stored.redirects, np.isin(pages, np.fromiter(self._redirects, np.int64))])
        news = np.concatenate([stored.news, ~np.isin(pages, np.fromiter(self._dull, np.int64))])
        edges = _Edges(sources, targets, len(nodes), redirects)
        depths = edges.depths(nodes.searchsorted(seed_hashes), np.fromiter((d for _, d in pairs), np.int64, len(pairs)))
        from_news = np.zeros(len(nodes), np.bool_)
        from_news[targets[news]] = True
        return Distances(nodes, depths, from_news)

    def stored_urls(self, wanted: NDArray[np.int64]) -> Iterator[str]:
        """Yield the URLs with these hashes, of those that are stored."""
        return self._stored.urls_of(wanted)

    def stored_pages(self) -> Iterator[str]:
        """Yield the URLs of all pages and redirects that are stored."""
        return self._stored.urls_of(self._stored.page_hashes)

    def linked_from(self, url: str) -> list[str]:
        """Return the stored pages that lead to a URL."""
        return self._stored.linked_from(url)

    def path_to(self, url: str, starts: Iterable[str]) -> list[str]:
        """Return a shortest chain of stored pages from a start to a URL, both included; empty if there is none."""
        return self._stored.path_to(url, starts)

    def _links_read(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the hashes of source and target of every link read in this crawl."""
        import numpy as np

        if not self._read:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        counts = np.fromiter(map(len, self._read.values()), np.int64, len(self._read))
        pages = np.fromiter(self._read, np.int64, len(self._read)).repeat(counts)
        return pages, np.concatenate([np.frombuffer(links, np.int64) for links in self._read.values()])


@dataclass(frozen=True, slots=True)
class Distances:
    """How far URLs are from the start URLs, by their hashes."""

    hashes: NDArray[np.int64]
    """Sorted."""
    depths: NDArray[np.int64]
    """Links from a start URL; UNREACHED where no chain leads to it."""
    from_news: NDArray[np.bool_]
    """Whether a page that said something new links to it."""

    def of(self, url: str) -> int:
        """Return the depth of a URL, UNREACHED if nothing leads to it."""
        place = _place_of(hash(url), self.hashes)
        return UNREACHED if place is None else int(self.depths[place])

    def is_linked_by_news(self, url: str) -> bool:
        """Whether a page that said something new links to a URL."""
        place = _place_of(hash(url), self.hashes)
        return place is not None and bool(self.from_news[place])

    @property
    def reached(self) -> NDArray[np.int64]:
        """The hashes of the URLs that something leads to."""
        found: NDArray[np.int64] = self.hashes[self.depths != UNREACHED]
        return found


@dataclass(frozen=True, slots=True)
class _StoredEdges:
    """Links of stored pages: numbers of source and target, whether the source redirects, whether it said something."""

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    redirects: NDArray[np.bool_]
    news: NDArray[np.bool_]


class _StoredLinks:
    """The rows of the file, as arrays."""

    def __init__(self, rows: pa.Table) -> None:
        import numpy as np
        import pyarrow as pa

        links = _array(rows.column("links"))
        values = links.flatten() if rows.num_rows else pa.array([], pa.string())
        values = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        ids = {url: number for number, url in enumerate(values.dictionary.to_pylist())}
        pages = [ids.setdefault(key, len(ids)) for key in rows.column("key").to_pylist()]
        self._urls = list(ids)
        self._sources = np.array(pages, np.int64)
        self._targets = values.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        self.hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        """By number of a URL."""
        self._order = np.argsort(self.hashes, kind="stable")
        self._sorted = self.hashes[self._order]
        pages_of_rows = self.hashes[self._sources]
        self._row_order = np.argsort(pages_of_rows, kind="stable")
        self.page_hashes = pages_of_rows[self._row_order]
        """Of the rows' keys, sorted."""
        self._counts = np.diff(links.offsets.to_numpy()).astype(np.int64) if rows.num_rows else np.zeros(0, np.int64)
        self._starts = self._counts.cumsum() - self._counts
        self._redirects = _flags(rows, "is_redirect", default=False)
        self.redirect_hashes = frozenset(self.hashes[self._sources[self._redirects]].tolist())
        self._news = _flags(rows, "is_news", default=True)

    def has(self, url: str) -> bool:
        return _place_of(hash(url), self.page_hashes) is not None

    def says(self, page: int, links: array[int], *, is_redirect: bool, is_news: bool | None) -> bool:
        """Return whether a page is stored with these links, whose hashes are given as its own is."""
        import numpy as np

        place = _place_of(page, self.page_hashes)
        if place is None:
            return False
        row = int(self._row_order[place])
        start = int(self._starts[row])
        targets = self.hashes[self._targets[start : start + self._counts[row]]]
        flags = (bool(self._redirects[row]), bool(self._news[row]))
        return flags == (is_redirect, is_news is not False) and np.array_equal(targets, np.frombuffer(links, np.int64))

    def edges(self, without: NDArray[np.int64]) -> _StoredEdges:
        """Return the links of all pages but those with these hashes."""
        import numpy as np

        kept = ~np.isin(self.hashes[self._sources], without)
        each = kept.repeat(self._counts)
        return _StoredEdges(
            self._sources.repeat(self._counts)[each],
            self._targets[each],
            self._redirects.repeat(self._counts)[each],
            self._news.repeat(self._counts)[each],
        )

    def urls_of(self, wanted: NDArray[np.int64]) -> Iterator[str]:
        import numpy as np

        for place in np.flatnonzero(np.isin(self.hashes, wanted)).tolist():
            yield self._urls[place]

    def linked_from(self, url: str) -> list[str]:
        import numpy as np

        found = self._id_of(url)
        if found is None:
            return []
        pages = self._sources.repeat(self._counts)[self._targets == found]
        return [self._urls[page] for page in np.unique(pages).tolist()]

    def path_to(self, url: str, starts: Iterable[str]) -> list[str]:
        import numpy as np

        goal, seeds = self._id_of(url), [found for start in starts if (found := self._id_of(start)) is not None]
        if goal is None or not seeds:
            return []
        edges = _Edges(
            self._sources.repeat(self._counts), self._targets, len(self._urls), np.zeros(len(self._targets), np.bool_)
        )
        chain = edges.shortest_path(np.array(seeds, np.int64), goal)
        return [self._urls[each] for each in chain]

    def _id_of(self, url: str) -> int | None:
        place = int(self._sorted.searchsorted(hash(url)))
        while place < len(self._sorted) and self._sorted[place] == hash(url):
            found = int(self._order[place])
            if self._urls[found] == url:
                return found
            place += 1
        return None


class _Edges:
    """A directed graph of numbered nodes, sorted by source for following links level by level."""

    def __init__(
        self, sources: NDArray[np.int64], targets: NDArray[np.int64], nodes: int, redirects: NDArray[np.bool_]
    ) -> None:
        import numpy as np

        order = np.argsort(sources, kind="stable")
        self._targets = targets[order]
        self._starts = np.searchsorted(sources[order], np.arange(nodes + 1))
        self._redirects = np.zeros(nodes, np.bool_)
        self._redirects[sources[redirects]] = True
        self._nodes = nodes

    def depths(self, seeds: NDArray[np.int64], seed_depths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the least depth of every node; a redirect's target is as deep as the redirect."""
        import numpy as np

        depths = np.full(self._nodes, UNREACHED, np.int64)
        depth, level = 0, np.zeros(0, np.int64)
        last_seed = int(seed_depths.max()) if len(seed_depths) else 0
        while len(level) or depth <= last_seed:
            level = np.unique(np.concatenate([level, seeds[seed_depths == depth]]))
            level = self._with_redirects(level[depths[level] == UNREACHED], depths, depth)
            found = np.unique(self._targets_of(level[~self._redirects[level]]))
            level, depth = found[depths[found] == UNREACHED], depth + 1
        return depths

    def _with_redirects(self, level: NDArray[np.int64], depths: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
        """Set the depth of these nodes and of what they redirect to; return all of them."""
        import numpy as np

        found = [level]
        while len(level):
            depths[level] = depth
            led_to = np.unique(self._targets_of(level[self._redirects[level]]))
            level = led_to[depths[led_to] == UNREACHED]
            found.append(level)
        return np.concatenate(found)

    def shortest_path(self, seeds: NDArray[np.int64], goal: int) -> list[int]:
        """Return the nodes of a shortest chain from a seed to the goal; empty if there is none."""
        import numpy as np

        parents = np.full(self._nodes, UNREACHED, np.int64)
        level = np.unique(seeds)
        parents[level] = level
        while len(level) and parents[goal] == UNREACHED:
            pages = level.repeat(self._starts[level + 1] - self._starts[level])
            found = self._targets_of(level)
            is_new = parents[found] == UNREACHED
            parents[found[is_new]] = pages[is_new]
            level = np.unique(found[is_new])
        if parents[goal] == UNREACHED:
            return []
        chain = [goal]
        while parents[chain[-1]] != chain[-1]:
            chain.append(int(parents[chain[-1]]))
        return chain[::-1]

    def _targets_of(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the targets of all links of these nodes, node after node."""
        import numpy as np

        starts = self._starts[nodes]
        counts = self._starts[nodes + 1] - starts
        if not counts.sum():
            return np.zeros(0, np.int64)
        shifts = np.repeat(starts - np.concatenate([[0], counts.cumsum()[:-1]]), counts)
        found: NDArray[np.int64] = self._targets[np.arange(counts.sum()) + shifts]
        return found


def _place_of(wanted: int, hashes: NDArray[np.int64]) -> int | None:
    """Return where a hash stands among sorted ones, None if it does not."""
    place = int(hashes.searchsorted(wanted))
    return place if place < len(hashes) and hashes[place] == wanted else None


def _array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    import pyarrow as pa

    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _flags(rows: pa.Table, name: str, *, default: bool) -> NDArray[np.bool_]:
    import numpy as np

    column = [default if flag is None else flag for flag in rows.column(name).to_pylist()]
    return np.array(column, np.bool_)
