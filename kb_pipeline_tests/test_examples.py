"""Each file of examples/ is built against a small site of its kind, and does what it is an example of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.control.kbs import catalog
from kb_pipeline.control.runs.failures import list_failures
from kb_pipeline.control.tenancy.secrets import set_secret, variables_of
from kb_pipeline.control.tenancy.tenants import create_tenant
from kb_pipeline.errors import BrowserMissing
from kb_pipeline.fetch.web.crawl.find_browser import find_browser
from kb_pipeline.model import KbKey
from kb_pipeline.operations.search import search_kb
from kb_pipeline.spec.kb_file import load_spec
from kb_pipeline_tests.docs_home import ROOT, plant_handbook
from kb_pipeline_tests.operations.home import MODEL, Home, Refreshed, quick_refreshes
from kb_pipeline_tests.site import Site, serve_site

EXAMPLES = ROOT / "examples"
HEADER = "# yaml-language-server: $schema=../docs/kb-file.schema.json\n"


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quick_refreshes():
        yield


@pytest.fixture
def site() -> Iterator[Site]:
    with serve_site() as served:
        yield served


@pytest.fixture
def home(tmp_path: Path, models_dir: Path) -> Home:
    return Home(tmp_path / "home", models_dir)


class Example:
    """One example on a home of a test's, whose addresses are those of local sites."""

    def __init__(self, name: str, home: Home, sites: dict[str, Site], folder: Path, model: str = MODEL) -> None:
        self.text = (EXAMPLES / f"{name}.yaml").read_text("utf-8")
        self._home, self._sites, self._path, self._model = home, sites, folder / f"{name}.yaml", model
        self.apply()

    def apply(self, *edits: tuple[str, str]) -> None:
        """Apply it, after edits to its text."""
        for old, new in edits:
            assert self.text.count(old) == 1
            self.text = self.text.replace(old, new)
        golden = (EXAMPLES / "golden.yaml").read_text("utf-8")
        (self._path.parent / "golden.yaml").write_text(self._local(golden))
        text = re.sub(r"delay_s: [\d.]+", "delay_s: 0", self._local(self.text))
        if "\nembedding:" not in text:
            text += f"\nembedding: {{model: {self._model}}}\n"
        self._path.write_text(re.sub(r"(?<=  model: )[\w-]+", self._model, text))
        home = self._home
        loaded = load_spec(self._path, lambda tenant, names: variables_of(home.settings, home.db, tenant, names))
        catalog.apply_spec(home.db, loaded.spec, loaded.yaml, "tester")
        self.key = KbKey(loaded.spec.tenant, loaded.spec.kb)

    def refresh(self, status: str) -> Refreshed:
        refreshed = self._home.refresh(self.key)
        assert refreshed.status == status, refreshed.message
        return refreshed

    def keys(self) -> list[str]:
        return self._home.keys(self.key)

    def first(self, query: str, as_of: int | None = None) -> dict[str, Any]:
        """Return the first hit."""
        found = search_kb(self._home.readers, self.key, query, k=1, as_of=str(as_of) if as_of else None)
        return dict(found[0].as_json())

    def _local(self, text: str) -> str:
        for host, site in self._sites.items():
            text = text.replace(f"https://{host}", site.url)
        return text


def put_sitemap(site: Site, pages: dict[str, str]) -> None:
    """Give each page's lastmod."""
    lines = "".join(f"<url><loc>{site.url}{path}</loc><lastmod>{day}</lastmod></url>" for path, day in pages.items())
    site.pages["/sitemap.xml"] = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{lines}</urlset>'


def test_there_are_eight_each_with_a_line_for_editors_and_commands_of_its_own_kb() -> None:
    texts = {path.stem: path.read_text("utf-8") for path in EXAMPLES.glob("*.yaml") if path.stem != "golden"}
    assert len(texts) == 8
    for name, text in texts.items():
        assert text.startswith(HEADER)
        tenant, kb = (re.findall(rf"^{field}: ([\w-]+)", text, re.MULTILINE)[0] for field in ("tenant", "kb"))
        commands = re.findall(r"^#   (?:echo .* \| )?kb (\w+) (\S+)", text, re.MULTILINE)
        assert ("apply", f"examples/{name}.yaml") in commands
        assert ("build", f"{tenant}/{kb}") in commands
        named = {argument for command, argument in commands if command not in {"apply", "secret", "tenant"}}
        assert named == {f"{tenant}/{kb}"}


def test_documentation_site_takes_the_guide_and_the_interface_and_no_archive(
    site: Site, home: Home, tmp_path: Path
) -> None:
    paths = ("/guide/tokens", "/api/errors", "/guide/archive/old", "/blog/news")
    site.put("/guide/", "Guide", "The guide to our program, in the order in which you need it.", paths)
    for path in paths:
        site.put(path, path.title(), f"What there is to say of {path} is said here, in one sentence.")
    example = Example("documentation-site", home, {"docs.example.com": site}, tmp_path)
    example.refresh("ready")
    assert example.keys() == ["/api/errors", "/guide/", "/guide/tokens"]
    assert not site.answered["/guide/archive/old"]


def test_multilingual_finds_an_answer_in_another_language(site: Site, home: Home, tmp_path: Path) -> None:
    site.put("/en/", "Handbook", "The handbook of the device, for whoever sets it up.")
    site.put("/de/", "Handbuch", "Das Handbuch des Geräts.", ("/de/zurücksetzen", "/de/print/zurücksetzen"))
    site.put("/fr/", "Manuel", "Le manuel de l'appareil, pour ceux qui l'installent.")
    site.put("/es/", "Manual", "El manual del aparato, para quien lo instala.")
    site.pages["/de/zur%C3%BCcksetzen"] = (
        "<html lang=de><title>Zurücksetzen</title><main><h1>Zurücksetzen</h1><p>Halten Sie den Knopf zehn Sekunden "
        "gedrückt, dann hat das Gerät wieder die Einstellungen des Werks.</p></main></html>"
    )
    with serve_site() as japanese:
        japanese.put("/", "取扱説明書", "この装置の電源の入れ方と設定の方法を説明します。")
        put_sitemap(japanese, {"/": "2026-01-02"})
        japanese.pages["/sitemap-pages.xml"] = japanese.pages["/sitemap.xml"]
        sites = {"help.example.com": site, "ja.help.example.com": japanese}
        example = Example("multilingual", home, sites, tmp_path, model="multilingual-e5-small")
        example.refresh("ready")
    assert example.first("restore factory defaults")["title"] == "Zurücksetzen"
    assert not site.answered["/de/print/zur%C3%BCcksetzen"]


def test_small_first_says_what_the_limit_leaves_out_and_then_brings_the_rest(
    site: Site, home: Home, tmp_path: Path
) -> None:
    fruits, works = (
        ("apples", "pears", "plums", "quinces", "medlars"),
        ("pick", "store", "dry", "press", "cook", "sell"),
    )
    topics = {f"/{work}/{fruit}": f"How to {work} {fruit}" for work in works for fruit in fruits}
    site.put("/", "Start", "Thirty pages are listed here, each with a subject of its own.", tuple(topics))
    for path, title in topics.items():
        site.put(path, title, f"{title}: begin early, {path.rsplit('/')[-1]} wait for nobody, and {path[1:4]} gently.")
    example = Example("small-first", home, {"docs.example.com": site}, tmp_path)
    small = example.refresh("ready_with_warnings")
    assert "max_pages" in small.message
    assert len(example.keys()) == 20
    before = site.asked.copy()
    example.apply(("max_pages: 20 ", "max_pages: 1000 "))
    raised = example.refresh("ready")
    assert len(example.keys()) == 31
    assert raised.embedded == 11
    assert [path for path in topics if path in before and site.asked[path] > before[path]] == []


def test_golden_queries_hold_a_version_that_does_not_answer(site: Site, home: Home, tmp_path: Path) -> None:
    plant_handbook(site)
    example = Example("golden-queries", home, {"docs.example.com": site}, tmp_path)
    example.refresh("ready")
    site.put("/guide/tokens", "Tokens", "Rotate a token in the settings of your account.")
    held = example.refresh("held")
    assert "golden_queries" in held.message
    assert "how long does the old token work?" in held.message
    assert example.first("rotate a token")["text"].endswith("the old one works for ninety days.")


def test_secrets_opens_a_shared_folder_and_keeps_the_token_out_of_what_is_stored(
    site: Site, home: Home, tmp_path: Path
) -> None:
    create_tenant(home.db, "acme", "default", "tester")
    set_secret(home.settings, home.db, "acme", "SHARE_TOKEN", "s3same-open", "tester")
    site.put("/s/s3same-open/", "Shared", "What we share with you lies in this folder.", ("plan", "/private"))
    site.put("/s/s3same-open/plan", "Plan", "The plan for the next year is to plant two hundred trees.")
    site.put("/private", "Private", "Nobody but us may read what stands here.")
    example = Example("secrets", home, {"files.example.com": site}, tmp_path)
    example.refresh("ready")
    assert len(example.keys()) == 2
    assert not site.answered["/private"]
    stored = catalog.get_kb(home.db, example.key).yaml
    assert "${SHARE_TOKEN}" in stored
    assert "s3same-open" not in stored


def test_javascript_reads_pages_that_are_empty_without_their_scripts(site: Site, home: Home, tmp_path: Path) -> None:
    try:
        find_browser("")
    except BrowserMissing as missing:
        pytest.skip(str(missing))
    said = "Open the console and choose the region where your machines shall run."
    site.put("/", "Console", "The console of our machines, for whoever starts and stops them.", ("/regions",))
    script = f"root.innerHTML = '<h1>Regions</h1><p>' + {json.dumps(said)} + '</p>'"
    site.pages["/regions"] = f"<title>Regions</title><div id=root></div><script>{script}</script>"
    example = Example("javascript", home, {"console.example.com": site}, tmp_path)
    refreshed = example.refresh("ready")
    assert refreshed.stages["fetch"]["rendered"] == 1
    assert example.first("in which region do machines run")["text"].endswith(said)


def test_prices_finds_the_change_and_asks_for_that_page_alone(site: Site, home: Home, tmp_path: Path) -> None:
    days = {f"/product/{number}": "2026-01-02" for number in range(8)}
    site.put("/", "Shop", "Kettles in eight colours, each with its price.", (*days, "/filter/red", "/cart/"))
    for number, path in enumerate(days):
        site.put(path, f"Kettle {number}", f"The kettle of colour number {number} costs {number + 20} euros.")
    put_sitemap(site, days)
    example = Example("prices", home, {"shop.example.com": site}, tmp_path)
    example.refresh("ready")
    example.refresh("unchanged")
    before = site.answered.copy()
    site.put("/product/3", "Kettle 3", "The kettle of colour number 3 costs 17 euros this week.")
    put_sitemap(site, days | {"/product/3": "2026-01-09"})
    example.refresh("ready")
    asked = {path for path in days if site.answered[path] > before[path]}
    assert asked == {"/product/3"}
    assert "17 euros" in example.first("price of kettle 3")["text"]
    assert not {path for path in site.answered if path.startswith(("/filter", "/cart"))}


def test_a_court_site_keeps_what_was_online_leaves_views_out_and_lets_nothing_vanish_unasked(
    site: Site, home: Home, tmp_path: Path
) -> None:
    decisions = tuple(f"/decisions/2026/{number}" for number in range(6))
    rows = "".join(f'<li><a href="{path}">Decision {path[-1]} of the first chamber</a></li>' for path in decisions)
    links = '<a href="/decisions/?sort=date">by date</a> <a href="/decisions/search/all">search</a>'
    for path in ("/decisions/", "/decisions/?sort=date"):
        site.pages[path] = (
            f"<html lang=en><title>Decisions</title><main><h1>Decisions</h1><ul>{rows}</ul>{links} "
            '<a href="/decisions/2026/0.pdf">as a file</a></main></html>'
        )
    for path in decisions:
        text = f"In the matter number {path[-1]} the appeal is dismissed; the notice period was three months."
        site.put(path, f"Decision {path[-1]}", text)
    example = Example("court-site", home, {"court.example.com": site}, tmp_path)
    example.refresh("ready")
    assert example.keys() == ["/decisions/", *decisions]
    site.put(
        "/decisions/2026/0", "Decision 0", "In the matter number 0 the appeal is allowed, and the costs are shared."
    )
    example.refresh("ready")
    assert "dismissed" in example.first("matter number 0 appeal", as_of=1)["text"]
    assert "allowed" in example.first("matter number 0 appeal allowed costs shared")["text"]
    site.status["/decisions/2026/1"] = 410
    held = example.refresh("held")
    assert "1 of 7 documents vanished" in held.message
    reasons = {row.reason for row in list_failures(home.db, example.key)}
    assert "gone" in reasons or "not_found" in reasons
    assert not site.answered["/decisions/search/all"]
