"""A real site that nobody here wrote: the Debian Administrator's Handbook as Debian packages it, some 125 pages."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.versions import live_manifest
from kb_pipeline.embed import open_embedder
from kb_pipeline.index.documents import list_documents
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import search_version
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline_tests.kb import Kb

ROOT = Path("/usr/share/doc/debian-handbook/html/en-US")
MODEL = "all-MiniLM-L6-v2"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ROOT.is_dir(), reason="Debian's package debian-handbook is not installed"),
]


@pytest.fixture
def handbook() -> Iterator[str]:
    """Serve the handbook with Python's own web server."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(ROOT)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    port = re.search(r"port (\d+)", server.stdout.readline())
    assert port is not None
    yield f"http://127.0.0.1:{port[1]}"
    server.terminate()
    server.wait()


def reachable(base: str) -> set[str]:
    """Return the HTML pages that links lead to from index.html, found without any code of the crawler."""
    seen, waiting = {f"{base}/index.html"}, [f"{base}/index.html"]
    while waiting:
        url = waiting.pop()
        text = (ROOT / unquote(urlsplit(url).path.lstrip("/"))).read_text("utf-8", errors="replace")
        for href in re.findall(r"""<a\s[^>]*?href=["']([^"']+)["']""", text):
            link = urldefrag(urljoin(url, href.replace("&amp;", "&")))[0]
            path = ROOT / unquote(urlsplit(link).path.lstrip("/"))
            if link.startswith(base) and link.endswith(".html") and link not in seen and path.is_file():
                seen.add(link)
                waiting.append(link)
    return seen


def test_the_handbook_is_published_found_by_its_titles_and_then_unchanged(kb: Kb, handbook: str) -> None:
    spec = (
        "tenant: acme\nkb: handbook\nsources:\n"
        f"  - {{name: site, type: web, start_urls: ['{handbook}/index.html'], delay_s: 0, max_depth: 20}}\n"
        f"embedding: {{model: {MODEL}}}\n"
    )
    (kb.folder / "handbook.yaml").write_text(spec)
    assert kb("apply", "handbook.yaml").status == 0
    built = kb.build("handbook")
    assert (built.status, built.json["status"]) == (0, "ready"), built.err

    settings, key = load_settings(), KbKey("acme", "handbook")
    manifest = live_manifest(Database(settings.database_url), key)
    version = VersionReader(KbStore(KbPaths(settings.data_dir, key)), manifest)
    documents = list(list_documents(version))
    pages = reachable(handbook)
    assert len(pages) > 100
    published = {row.key for row in documents}
    assert len(pages & published) >= 0.99 * len(pages), sorted(pages - published)

    titles = Counter(row.title for row in documents)
    asked = [row for row in documents if titles[row.title] == 1]
    embedder = open_embedder(MODEL)
    found = 0
    for row in asked:
        hits = search_version(version, row.title, embedder.embed_query, k=5)
        found += any(hit.key == row.key for hit in hits)
    assert found >= 0.95 * len(asked), f"{found} of {len(asked)}"

    again = kb.build("handbook")
    assert (again.status, again.json["status"]) == (0, "unchanged")
    assert again.json["stages"]["embed"]["embedded"] == 0
    assert again.json["stages"]["clean"]["unchanged"] == again.json["stages"]["clean"]["in"]
