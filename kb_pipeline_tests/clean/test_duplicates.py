"""Which documents are copies of one another, and which only look alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.model import document_id
from kb_pipeline.store.stage_tables import DOCUMENTS
from kb_pipeline_tests.clean.stored_site import ORIGIN, StoredSite, link, page, prose, title


@pytest.fixture
def site(tmp_path: Path) -> StoredSite:
    return StoredSite(tmp_path)


WARRANTY = "".join(prose(("warranty", n), 60) for n in range(4))


def part(n: int, canonical: str, *, name: str | None = None) -> str:
    return page(
        name or title(n), prose(("part", n), 7) + WARRANTY, head=f'<link rel=canonical href="{ORIGIN}{canonical}">'
    )


def test_parts_that_a_faulty_template_calls_one_address_stay(site: StoredSite) -> None:
    parts = {f"/part/{n}": part(n, "/part/0") for n in range(12)}
    same_title = {f"/piece/{n}": part(100 + n, "/piece/0", name="Piece") for n in range(12)}
    by_number = {f"/bit.php?id={n}": part(200 + n, "/bit.php?id=0", name="Bit") for n in range(12)}
    site.put(parts | same_title | by_number)
    site.refresh()
    assert site.documents() == {*parts, *same_title, *by_number}


def test_a_page_that_differs_little_from_its_canonical_address_is_that_page(site: StoredSite) -> None:
    head = f'<link rel=canonical href="{ORIGIN}/fruit">'
    site.put({"/fruit": page("Fruit", WARRANTY, head=head)})
    site.put({f"/fruit?order={n}": page("Fruit", WARRANTY, f"<p>Order {n}.</p>", head=head) for n in range(9)})
    site.put({"/m/fruit": page("Fruit", WARRANTY, "<p>For small screens.</p>", head=head)})
    site.put({"/pear": page("Pear", WARRANTY, head=head)})
    site.refresh()
    assert site.documents() == {"/fruit", "/pear"}


def test_copies_that_differ_in_the_targets_of_their_links_are_one(site: StoredSite) -> None:
    def unit(session: str, n: int) -> str:
        more = "".join(link(f"/(S({session}))/unit/{m}.aspx", title(m)) for m in range(3))
        return page(title(n), prose(n), more)

    site.put({f"/(S({session}))/unit/{n}.aspx": unit(session, n) for session in ("x1", "k7") for n in range(3)})
    site.refresh()
    assert site.documents() == {f"/(S(k7))/unit/{n}.aspx" for n in range(3)}
    documents = site.store.tables.open(DOCUMENTS).read_columns(["key", "duplicate_of"], "duplicate_of IS NOT NULL")
    assert dict(documents.iter_rows()) == {
        f"{ORIGIN}/(S(x1))/unit/{n}.aspx": document_id("site", f"{ORIGIN}/(S(k7))/unit/{n}.aspx") for n in range(3)
    }


def test_copies_that_quote_their_own_address_are_one(site: StoredSite) -> None:
    site.put({f"/club/{n}": page("Club", prose("club"), f"<p>You are at {ORIGIN}/club/{n} now.</p>") for n in range(4)})
    site.refresh()
    assert site.documents() == {"/club/0"}


def test_copies_to_the_last_byte_are_one_also_where_they_quote_one_of_their_addresses(site: StoredSite) -> None:
    copy = page("Apples", prose("apples"), f"<p>Retrieved from {ORIGIN}/wiki/apples.</p>")
    site.put(dict.fromkeys(("/wiki/apples", "/w/apples", "/index/apples"), copy))
    site.refresh()
    assert site.documents() == {"/w/apples"}


def test_pages_with_other_titles_and_other_targets_are_no_copies(site: StoredSite) -> None:
    def downloads(system: str) -> str:
        return f"<html><title>Downloads for {system}</title><body><p>Get it {link(f'/{system}.zip', 'here')}.</p>"

    site.put({f"/{system}": downloads(system) for system in ("linux", "windows")})
    site.refresh()
    assert site.documents() == {"/linux", "/windows"}


def test_of_copies_the_plainest_address_stays(site: StoredSite) -> None:
    site.put(dict.fromkeys(("/p?v=1", "/print/a", "/articles/apples-and-pears"), page("Apples", prose("a"))))
    site.refresh()
    assert site.documents() == {"/articles/apples-and-pears"}
