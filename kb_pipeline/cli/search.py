"""`kb search`: asks a version and shows the hits."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from kb_pipeline.clean.plain import plain_text
from kb_pipeline.cli.output import out, printable
from kb_pipeline.index.search import Hit, Mode, search_version
from kb_pipeline.settings import Settings
from kb_pipeline.tables import KbStore

if TYPE_CHECKING:
    from kb_pipeline.embed.texts import Embedder

_SNIPPET_CHARS = 240


def search_kb(
    settings: Settings,
    store: KbStore,
    manifest: Mapping[str, Any],
    query: str,
    *,
    k: int,
    mode: Mode = "hybrid",
    language: str | None = None,
) -> list[Hit]:
    """Search a version with the model that its manifest names, opened only if the mode needs it."""

    def embed_query(text: str) -> Any:  # noqa: ANN401 - a float32 array
        return _open_embedder(manifest["model"]["name"], settings.models_dir).embed_query(text)

    return search_version(store, manifest, query, embed_query, k=k, mode=mode, language=language)


@lru_cache(maxsize=1)
def _open_embedder(model: str, models_dir: Path) -> Embedder:
    from kb_pipeline.embed import open_embedder

    return open_embedder(model, cache_dir=models_dir)


def print_hits(hits: Sequence[Hit]) -> None:
    """Title, heading path, snippet and URL of each hit."""
    if not hits:
        out.print("no hits")
    for hit in hits:
        path = " > ".join(heading for heading in hit.headings if heading != hit.title)
        place = f" [dim]({escape(printable(path))})[/]" if path else ""
        out.print(f"[bold]{hit.rank}. {escape(printable(hit.title))}[/]{place} [dim]{hit.language} {hit.score:.4f}[/]")
        snippet = textwrap.shorten(printable(plain_text(hit.text)), _SNIPPET_CHARS, placeholder=" ...")
        out.print(textwrap.indent(escape(snippet), "   "))
        out.print(f"   [cyan]{escape(printable(hit.key))}[/]\n")
