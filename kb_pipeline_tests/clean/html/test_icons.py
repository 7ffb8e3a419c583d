"""What a page says in attributes alone is in its text, once."""

from __future__ import annotations

import pytest

from kb_pipeline_tests.clean.pages import markdown


def body(page: str) -> str:
    return markdown(f"<div class=markdown-body>{page}</div>").strip()


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        ('<td aria-label="Available"><i class="icon-check"></i></td>', "Available"),
        ('<td><i class="fa fa-times" title="Unavailable" aria-hidden="true"></i></td>', "Unavailable"),
        ('<td><svg aria-label="Not included" role="img"><path d="M1 1"/></svg></td>', "Not included"),
        ('<td><svg role="img"><title>Included</title><path d="M1 1"/></svg></td>', "Included"),
        ('<td><svg role="img"><desc>Partly</desc></svg></td>', "Partly"),
        ('<td><img src="/i/y.png" alt="Yes"></td>', "Yes"),
        ('<td><img src="/i/y.png" title="Yes"></td>', "Yes"),
        ('<td><span role="img" aria-label="Yes">✅</span></td>', "Yes"),
        ('<td><span aria-hidden="true">✓</span><span class="sr-only">included</span></td>', "included"),
        ('<td><span aria-hidden="true">✓</span></td>', "✓"),
        ('<td><i class="fa fa-check"></i></td>', "✓"),
        ('<td><span class="glyphicon glyphicon-remove"></span></td>', "✗"),
        ('<td><svg><use xlink:href="#icon-tick"/></svg></td>', "✓"),
        ('<td><img src="/i/cross.svg" alt=""></td>', "✗"),
        ('<td><i class="material-icons">close</i></td>', "✗"),
        ('<td><div title="4 of 5"><i class="star"></i><i class="star"></i></div></td>', "4 of 5"),
        ('<td><meter value="4.5" max="5"></meter></td>', "4.5 / 5"),
    ],
)
def test_icon_in_a_cell_is_a_word(cell: str, word: str) -> None:
    table = body(f"<table><tr><th>Feature</th><th>Plan</th></tr><tr><td>Backup</td>{cell}</tr></table>")
    assert table.split("\n")[-1] == f"| Backup | {word} |"


def test_rating_is_said_once() -> None:
    assert body('<p>Rated <span role="img" aria-label="4.5 out of 5">★★★★☆</span> (12)') == "Rated 4.5 out of 5 (12)"
    assert body('<p><span class="s" title="4 stars"><i></i><i></i></span> 4 stars') == "4 stars"


def test_decoration_adds_no_words() -> None:
    page = (
        '<p><i class="fa" title="Info" aria-hidden="true"></i>Note <img alt="" src="a.png"> <span title="Tip">x</span>'
    )
    assert body(page) == "Note x"
    assert body('<p>Go <span class="material-icons">arrow_forward</span> on <button title="Copy"></button>') == "Go on"


def test_icon_with_a_name_is_set_off_from_words() -> None:
    assert body('<p>a<i class="lock" title="private"></i>b') == "a private b"


def test_ticks_and_crosses_before_items_stay() -> None:
    page = "<ul><li><i class='fa fa-check'></i> Backup</li><li><i class='bi bi-x-lg'></i>Audit log</li></ul>"
    assert body(page) == "- ✓ Backup\n- ✗ Audit log"


def test_emoji_are_text() -> None:
    assert (
        body('<p>Go <img class="emoji" alt="🎉" src="e.png"> <span role="img" aria-label="rocket">🚀</span>')
        == "Go 🎉 🚀"
    )


def test_link_without_words_is_named_by_what_it_holds() -> None:
    assert body('<p><a href="/guide"><span><img src="r.png" alt="Rope guide"></span></a>') == (
        "[Rope guide](https://site.test/guide)"
    )
    assert body('<p><a href="/t" aria-label="Timetable"><svg></svg></a>') == "[Timetable](https://site.test/t)"
    assert body('<p><a href="/g"><span><img src="r.png" alt="Ropes"></span> All ropes</a>') == (
        "[All ropes](https://site.test/g)"
    )


@pytest.mark.parametrize(
    "image",
    [
        '<img src="data:image/gif;base64,R0lG" data-src="/img/lock.png" alt="Section of the lock">',
        '<img data-original="/img/lock.png" alt="Section of the lock">',
        '<img src="/blank.gif" data-srcset="/img/lock.png 1x, /img/lock2.png 2x" alt="Section of the lock">',
        '<picture><source srcset="/img/lock.png"><img alt="Section of the lock"></picture>',
        '<img src="data:image/gif;base64,R0"><noscript><img src="/img/lock.png" alt="Section of the lock"></noscript>',
        '<noscript><img src="/img/lock.png" alt="Section of the lock"></noscript>',
        '<img src="/img/lock.png" title="Section of the lock">',
    ],
)
def test_lazy_image_has_its_own_address(image: str) -> None:
    assert body(f"<p>{image}</p>") == "![Section of the lock](https://site.test/img/lock.png)"


def test_inline_data_never_is_an_address() -> None:
    assert body('<p>See <img src="data:image/png;base64,AAECAw" alt="Wiring diagram"></p>') == "See Wiring diagram"


def test_areas_of_a_map_are_links() -> None:
    page = '<map name="m"><area href="/north" alt="North"><area href="/south" alt="South"></map>'
    assert body(f"<p>so</p>{page}") == "so\n\n- [North](https://site.test/north)\n- [South](https://site.test/south)"


def test_labels_of_a_drawing_stay() -> None:
    assert body("<p><svg><text>pump</text><text>valve</text></svg></p>") == "pump, valve"


def test_abbreviation_is_explained_once() -> None:
    abbreviation = '<abbr title="World Health Organization">WHO</abbr>'
    assert body(f"<p>The {abbreviation}, the {abbreviation}.") == "The WHO (World Health Organization), the WHO."
    assert (
        body('<p>On <abbr title="2024-05-01">1 May</abbr> <time datetime="2024-05-02"></time>') == "On 1 May 2024-05-02"
    )


def test_a_drawing_within_a_drawing_is_written_with_it() -> None:
    drawing = '<svg aria-label="Plan"><text>Hall 1</text><svg aria-label="Door"><text>Exit</text></svg></svg>'
    assert "Hall 1" in body(f"<p>See the plan.</p><p>{drawing}</p>")


def test_names_inside_names_are_no_failure() -> None:
    assert body("<p>so</p>" + "<span title=a>" * 300 + "<i title=b></i>") == "so\n\na"
