"""What a page says beyond its template, its address and what other pages say."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kb_pipeline.fetch.web.crawl.novelty import News, NoveltyFilter

HOST = "https://example.com"
TREES = ["ash", "elm", "fir", "yew", "oak", "tea"]
MENU = "\n".join(f"Menu entry about {' '.join(random.Random(n).choices(TREES, k=4))}" for n in range(500))
STORY = "The council meets in the old town hall to talk about bees and their keepers"


class Read:
    """A filter that reads pages of one host."""

    def __init__(self, path: Path | None = None) -> None:
        self.filter = NoveltyFilter(path)

    def __call__(self, path: str, *lines: str, links: tuple[str, ...] = (), pattern: str = "p") -> News:
        given = tuple(HOST + link for link in links)
        return self.filter.judge(HOST + path, pattern, "\n".join(lines), given).news


def test_text_seen_before_is_not_new_whatever_its_numbers_and_addresses() -> None:
    read = Read()
    lines = ("The events of 2026/11", "Nothing is planned in this month or in the next one", "more in 12")
    assert read("/2026/11", *lines, links=("/2026/12",)) is News.NEW
    assert (
        read("/2031/05", *(line.replace("2026/11", "2031/05") for line in lines), links=("/2031/12",)) is not News.NEW
    )
    assert read("/2031/06", *lines, STORY) is News.NEW


def test_each_host_is_read_for_itself() -> None:
    read = Read()
    assert read("/a", STORY) is News.NEW
    assert read.filter.judge("https://other.example/a", "p", STORY, ()).news is News.NEW
    assert read("/b", STORY, pattern="other") is News.COPY


def test_what_stands_below_a_menu_of_any_length_is_read() -> None:
    read = Read()
    read("/", MENU)
    assert read("/a", MENU, STORY) is News.NEW
    for page in range(3):
        read(f"/more/{page}", MENU)
        read(f"/entry/{page}", MENU)
    assert read("/b", MENU) is News.COPY
    assert read("/d?entry", MENU) not in (News.NEW, News.SOME), "a word of the address is one of the menu"
    assert read("/c", MENU, "Menu entry about nothing") is News.SOME


def test_a_few_words_of_its_own_are_something() -> None:
    read = Read()
    read("/term/anode", "Glossary", "anode", "positive electrode")
    assert read("/term/cathode", "Glossary", "cathode", "negative electrode") is News.SOME
    assert read("/term/triode", "Glossary", "triode", "positive electrode") is News.COPY


def test_shuffled_and_fewer_lines_are_no_news_and_all_of_them_are_a_copy() -> None:
    read = Read()
    goods = ["red shirt of cotton", "blue shirt of wool", "green hat of felt", "black shoes of leather"]
    assert read("/shop", *goods) is News.NEW
    assert read("/shop?sort=down", *reversed(goods)) is News.COPY
    assert read("/shop?size=s", *goods[1:3]) is News.NONE


def test_numbers_are_news_where_only_they_differ() -> None:
    read = Read()

    def article(number: int) -> News:
        chance = random.Random(number)
        cells = ("Price", f"{chance.randrange(10_000)}", "Weight in gram", f"{chance.randrange(10_000)}")
        return read(f"/article/{number}", *cells)

    assert [article(number) for number in range(5000, 5100)].count(News.SOME) > 90, "some look like addresses"
    assert article(5000) is News.SOME, "a page that had news has them whenever it is read"


def test_numbers_of_a_template_are_no_news() -> None:
    read = Read()
    for number, pattern in enumerate(("start", "shop", "shop", "shop"), start=5):
        footer = (f"Made in 0.{number}31 s with {number * 117} queries", "Visitors", f"{number * 3711}")
        news = read(f"/x/{number}", "Nothing is here for you to see", *footer, pattern=pattern)
    assert news is News.NONE


@pytest.mark.parametrize(
    "line",
    ["Items {first} to {last} of 40", "Page {page} of 99", "Diary of {month} 2033"],
    ids=["items", "page", "month"],
)
def test_numbers_that_an_address_implies_and_a_date_are_no_news(line: str) -> None:
    read = Read()
    months = ("March", "April", "May", "June", "July")
    for page, month in enumerate(months, start=31):
        text = line.format(first=page * 20 - 19, last=page * 20, page=page, month=month)
        news = read(f"/list?page={page}", "There is nothing on this page of the list", text)
    assert news in (News.NONE, News.COPY)


def test_chapters_of_what_was_read_as_one_page_say_something_as_often_as_few_pages_do() -> None:
    read = Read()
    chapters = [f"In chapter {n} we learn of {' and '.join(random.Random(n).choices(TREES, k=12))}" for n in range(5)]
    assert read("/book/print.html", *chapters) is News.NEW
    assert [read(f"/book/{n}.html", chapter) for n, chapter in enumerate(chapters)] == [News.SOME] * 5
    assert read("/book/0.html?theme=dark", chapters[0]) is News.COPY, "another view of a page is no chapter"
    again = [read(f"/copy/{n}/{chapters[0][:5]}", chapters[0], chapters[1]) for n in range(4)]
    assert again[-1] not in (News.NEW, News.SOME)


def test_a_place_has_each_page_once() -> None:
    read = Read()
    first = read.filter.judge(f"{HOST}/en/a", "en", STORY, ())
    assert [read.filter.is_first(place, first) for place in ("de", "de", "fr")] == [True, False, True]


def test_a_page_without_text_says_nothing() -> None:
    assert Read()("/a") is News.NONE
    assert Read()("/a", " ", "--", "") is News.NONE


def test_what_was_seen_is_kept_on_disk(tmp_path: Path) -> None:
    read = Read(tmp_path / "novelty.bin")
    assert read("/a", STORY) is News.NEW
    read.filter.save()
    again = Read(tmp_path / "novelty.bin")
    assert again("/b", STORY, STORY.replace("bees", "cows")) is not News.NEW
    assert again("/a", STORY) is News.SOME, "it had news of its own when it was read first"
    (tmp_path / "novelty.bin").write_bytes(b"torn")
    assert Read(tmp_path / "novelty.bin")("/b", STORY) is News.NEW


def test_a_full_filter_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kb_pipeline.fetch.web.crawl.novelty._BITS_LOG2", 16)
    read, chance = Read(), random.Random(1)
    for number in range(100):
        words = (f"w{chance.getrandbits(50):b}".translate({48: "o", 49: "i"}) for _ in range(300))
        assert read(f"/{number}", " ".join(words)) is News.NEW


def test_a_price_alone_tells_articles_apart_and_a_count_does_not() -> None:
    read = Read()
    text = "A shirt of cotton, to be washed at low heat, in all sizes and for all seasons of the year"
    prices = [read(f"/item?sku={number}", text, f"Price {number * 7}.{number + 10} EUR") for number in range(20, 40)]
    assert set(prices[2:]) == {News.SOME}
    counts = [read(f"/find?in={letter}", text, f"We have {5 + place % 3}") for place, letter in enumerate("abcdef")]
    assert counts[-1] in (News.NONE, News.COPY)


def test_tables_are_told_apart_by_their_rows_when_all_their_numbers_have_been_seen() -> None:
    read, chance = Read(), random.Random(1)

    def table(path: str, *links: str) -> News:
        cells = [f"At {chance.randrange(30)}" for _ in range(8)]
        return read(path, "High and low water of the day", *cells, links=links)

    days = [table(f"/tide/{letter}") for letter in "abcdefghijklmnop"]
    assert set(days) <= {News.NEW, News.SOME}
    assert table("/tide?of=q") is News.SOME
    assert table("/tide?of=r", *(f"/p/{number}" for number in range(8))) is not News.SOME, "a selection of a list"
