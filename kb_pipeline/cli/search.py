"""`kb search`: asks a version and shows the hits."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from kb_pipeline.clean.plain_text import plain_text
from kb_pipeline.cli.output import out, printable
from kb_pipeline.index.documents import HitProvenance
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Hit, Mode, search_version
from kb_pipeline.model import JsonObject
from kb_pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kb_pipeline.embed.protocol import Embedder

_SNIPPET_CHARS = 240


def search_kb(
    settings: Settings,
    version: VersionReader,
    query: str,
    *,
    k: int,
    mode: Mode = "hybrid",
    language: str | None = None,
) -> list[Hit]:
    """Search a version with the model that its manifest names, opened only if the mode needs it."""

    def embed_query(text: str) -> NDArray[np.float32]:
        return _open_embedder(version.manifest.model.name, settings.models_dir).embed_query(text)

    return search_version(version, query, embed_query, k=k, mode=mode, language=language)


@lru_cache(maxsize=1)
def _open_embedder(model: str, models_dir: Path) -> Embedder:
    from kb_pipeline.embed import open_embedder

    return open_embedder(model, cache_dir=models_dir)


def hits_as_json(hits: Sequence[Hit], provenances: Sequence[HitProvenance] | None) -> list[JsonObject]:
    """The hits as `kb search --json` prints them, each with its provenance if that is given."""
    if provenances is None:
        return [hit.as_json() for hit in hits]
    return [hit.as_json() | {"provenance": origin.as_json()} for hit, origin in zip(hits, provenances, strict=True)]


def print_hits(hits: Sequence[Hit], provenances: Sequence[HitProvenance] | None = None) -> None:
    """Title, heading path, snippet and URL of each hit, and where it came from if that is given."""
    if not hits:
        out.print("no hits")
    for number, hit in enumerate(hits):
        path = " > ".join(heading for heading in hit.headings if heading != hit.title)
        place = f" [dim]({escape(printable(path))})[/]" if path else ""
        out.print(f"[bold]{hit.rank}. {escape(printable(hit.title))}[/]{place} [dim]{hit.language} {hit.score:.4f}[/]")
        snippet = textwrap.shorten(printable(plain_text(hit.text)), _SNIPPET_CHARS, placeholder=" ...")
        out.print(textwrap.indent(escape(snippet), "   "))
        out.print(f"   [cyan]{escape(printable(hit.key))}[/]")
        if provenances is not None:
            out.print(f"   {printable(_in_a_line(provenances[number]))}", markup=False, style="dim")
        out.print()


def _in_a_line(hit: HitProvenance) -> str:
    document = hit.document
    code = " ".join(f"{stage} {number}" for stage, number in document.code.items())
    validator = document.etag or document.last_modified or "no validator"
    return (
        f"characters {hit.start}-{hit.end} of sha256 {document.sha256}, fetched "
        f"{document.fetched_at.isoformat()} from {document.url} ({validator}), run {document.run_id}, "
        f"code {code}, model {document.model.name}"
    )
