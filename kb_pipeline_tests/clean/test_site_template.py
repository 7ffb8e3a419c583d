"""What most pages of a site open or close with stays in one document, and a refresh gives what a first build would."""

from __future__ import annotations

from pathlib import Path

from kb_pipeline.store.stage_tables import DOCUMENTS
from kb_pipeline_tests.clean.stored_site import StoredSite, page, prose

OFFER = "<p>Write to the lock keeper at the harbour office, telephone 555 0188.</p>"
CLOSING = "<div><p>Open from April to October, high water permitting.</p></div>"


def framed(name: str, *, closing: str = CLOSING, own: str = "") -> str:
    return f"<title>{name}</title><body>{OFFER}<h1>{name}</h1><p>{own or prose(name)}</p>{closing}</body>"


def pages(count: int, **fields: str) -> dict[str, str]:
    return {f"/{number}": framed(f"Gate {number}", **fields) for number in range(count)}


def texts(site: StoredSite) -> dict[str, str | None]:
    return {path: site.text(path) for path in site.documents()}


def test_a_template_stays_in_the_first_document_only(tmp_path: Path) -> None:
    site = StoredSite(tmp_path)
    site.put(pages(6))
    (words,) = site.refresh().extra["words"]
    found = texts(site)
    assert [path for path, text in found.items() if "555 0188" in (text or "")] == ["/0"]
    assert [path for path, text in found.items() if "high water" in (text or "")] == ["/0"]
    assert (found["/3"] or "").startswith("# Gate 3\n")
    assert words["repeated"] == 5 * (11 + 9)


def test_a_few_pages_have_no_template(tmp_path: Path) -> None:
    site = StoredSite(tmp_path)
    site.put(pages(4))
    site.refresh()
    assert all("555 0188" in (text or "") for text in texts(site).values())


def test_a_document_that_is_template_only_keeps_it(tmp_path: Path) -> None:
    site = StoredSite(tmp_path)
    site.put(pages(6) | {"/empty": f"<title>Empty</title><body>{OFFER}{CLOSING}</body>"})
    site.refresh()
    assert "555 0188" in (site.text("/empty") or "")


def test_what_stands_in_the_middle_or_is_a_heading_stays(tmp_path: Path) -> None:
    site = StoredSite(tmp_path)
    site.put({f"/{n}": page("Lock", f"<p>{prose(n)}</p>{OFFER}<p>{prose(-n - 1)}</p>") for n in range(6)})
    site.refresh()
    assert all("# Lock" in (text or "") and "555 0188" in (text or "") for text in texts(site).values())


def test_tables_and_code_are_content_however_often_they_stand_there(tmp_path: Path) -> None:
    site = StoredSite(tmp_path)
    closing = "<table><tr><th>Licence</th><td>BSD</td></tr><tr><th>Since</th><td>2010</td></tr></table><pre>open</pre>"
    site.put(pages(6, closing=closing))
    site.refresh()
    assert all("BSD" in (text or "") and "open" in (text or "") for text in texts(site).values())


def test_refreshes_give_what_a_first_build_gives(tmp_path: Path) -> None:
    site = StoredSite(tmp_path / "grown")
    for number in range(8):  # the template appears with the fifth page
        site.put({f"/{number}": framed(f"Gate {number}")})
        site.refresh()
    changed = {f"/{number}": framed(f"Gate {number}", closing="<p>Closed for good.</p>") for number in (2, 3, 4, 5, 6)}
    site.put(changed)
    site.refresh()
    site.remove(["/0"])  # the one that kept the template
    site.refresh()
    fresh = StoredSite(tmp_path / "fresh")
    fresh.put({"/1": framed("Gate 1"), **changed, "/7": framed("Gate 7")})
    fresh.refresh()
    assert texts(site) == texts(fresh)
    assert _rows(site) == _rows(fresh)
    assert "555 0188" in (site.text("/1") or "")


def test_a_refresh_without_changes_writes_nothing(tmp_path: Path) -> None:
    site = StoredSite(tmp_path)
    site.put(pages(6))
    site.refresh()
    version = site.store.tables.open(DOCUMENTS).version
    site.refresh()
    assert site.store.tables.open(DOCUMENTS).version == version


def _rows(site: StoredSite) -> list[tuple[object, ...]]:
    columns = ["key", "document_hash", "content_sha256", "sketch", "segments", "template", "words", "cut_blocks"]
    return sorted(site.store.tables.open(DOCUMENTS).read_columns(columns).iter_rows())
