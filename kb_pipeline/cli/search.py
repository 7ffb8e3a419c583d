"""`kb search`: asks a version and shows the hits."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from kb_pipeline.cli.output import out, printable
from kb_pipeline.index.search import Hit, Mode, search_version
from kb_pipeline.settings import Settings
from kb_pipeline.tables import KbStore

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
        from kb_pipeline.embed import open_embedder

        return open_embedder(manifest["model"]["name"], cache_dir=settings.models_dir).embed_query(text)

    return search_version(store, manifest, query, embed_query, k=k, mode=mode, language=language)


def print_hits(hits: Sequence[Hit]) -> None:
    """Title, heading path, snippet and URL of each hit."""
    if not hits:
        out.print("no hits")
    for hit in hits:
        path = " > ".join(heading for heading in hit.headings if heading != hit.title)
        place = f" [dim]({escape(printable(path))})[/]" if path else ""
        out.print(f"[bold]{hit.rank}. {escape(printable(hit.title))}[/]{place} [dim]{hit.language} {hit.score:.4f}[/]")
        snippet = textwrap.shorten(printable(hit.text), _SNIPPET_CHARS, placeholder=" ...")
        out.print(textwrap.indent(escape(snippet), "   "))
        out.print(f"   [cyan]{escape(printable(hit.key))}[/]\n")
