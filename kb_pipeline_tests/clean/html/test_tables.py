"""A row of a table in Markdown says by itself what it says on the page."""

from __future__ import annotations

import time

import pytest

from kb_pipeline_tests.clean.pages import markdown


def _rows(page: str) -> list[str]:
    return [line for line in markdown(page).splitlines() if line.startswith("|") and "---" not in line]


def test_spanned_cell_is_repeated_wherever_it_counts() -> None:
    page = """<table><tr><th>Court<th>Step<th>Fee<tr><td rowspan=2>District<td>Claim<td>89
    <tr><td>Hearing<td>120<tr><td>Appeal<td colspan=2>on request</table>"""
    assert _rows(page)[1:] == [
        "| District | Claim | 89 |",
        "| District | Hearing | 120 |",
        "| Appeal | on request | on request |",
    ]


def test_rows_of_the_head_are_joined() -> None:
    page = """<table><thead><tr><th rowspan=2>Model<th colspan=2>Weight<tr><th>empty<th>loaded</thead>
    <tr><td>K2<td>210<td>380</table>"""
    assert _rows(page) == ["| Model | Weight empty | Weight loaded |", "| K2 | 210 | 380 |"]
    assert _rows(page.replace("<thead>", "").replace("</thead>", "")) == _rows(page)


def test_title_across_a_table_stands_above_it_and_part_names_inside() -> None:
    page = """<table><tr><th colspan=3>Timetable<tr><th>Line<th>First<th>Last<tr><th colspan=3>North
    <tr><td>1<td>6<td>22</table>"""
    assert markdown(page).startswith("Timetable\n\n| Line | First | Last |")
    assert _rows(page)[1] == "| North | North | North |"


def test_cell_that_claims_more_columns_than_there_are_adds_none() -> None:
    assert _rows("<table><tr><th>A<th>B<tr><td colspan=99>none<tr><td>1<td>2</table>")[1:] == [
        "| none | none |",
        "| 1 | 2 |",
    ]


def test_table_whose_rows_are_named_has_no_column_names() -> None:
    assert _rows("<table><tr><th>Status<td>Base<tr><th>Module<td>tide</table>") == [
        "|  |  |",
        "| Status | Base |",
        "| Module | tide |",
    ]
    page = "<table><tr><th colspan=2>General<tr><th>Height<td>3 m<tr><td colspan=2>A lock<tr><th>Keeper<td>Ada</table>"
    assert _rows(page)[:2] == ["|  |  |", "| Height | 3 m |"]


@pytest.mark.parametrize(
    ("first", "is_head"),
    [
        ("<tr><td>Function<td>Meaning", False),
        ("<tr><td><b>Function</b><td><p><strong>Meaning</strong></p>", True),
        ("<tr bgcolor=grey><td>Function<td>Meaning", True),
        ("<tr><td class=hd>Function<td class=hd>Meaning", True),
    ],
)
def test_first_row_of_a_long_table_names_the_columns_only_if_it_looks_so(first: str, is_head: bool) -> None:
    rows = "".join(f"<tr><td>open_{name}<td>opens {name}" for name in ("gate", "lock", "weir", "dam", "door"))
    head = _rows(f"<table>{first}{rows}</table>")[0]
    assert (head == "|  |  |") is not is_head
    numbers = "".join(f"<tr><td>open_{name}<td>{size} m" for size, name in enumerate(("gate", "lock", "weir", "dam")))
    assert _rows(f"<table>{first}{numbers}</table>")[0] != "|  |  |"


def test_table_of_one_named_column_keeps_what_is_in_a_cell_together() -> None:
    page = """<table><thead><tr><th><p>Column Type</p><p>Description</p><tbody><tr><td><p><code>grantor</code> name</p>
    <p>Who grants.</p><tr><td><p><code>grantee</code> name</p><p>Who gains.</p></table>"""
    assert _rows(page) == [
        "| Column Type<br>Description |",
        "| `grantor` name<br>Who grants. |",
        "| `grantee` name<br>Who gains. |",
    ]


def test_blocks_stay_in_their_cell() -> None:
    page = """<table><tr><th>Option<th>Meaning<tr><td><h4>retries</h4><td><p>How often:</p>
    <ul><li>1: once<li>2: <a href=/t>twice</a></ul><pre>a:\n  - b | c</pre><tr><td>x<td>y<br>z</table>"""
    assert _rows(page)[1:] == [
        "| **retries** | How often:<br>- 1: once<br>- 2: [twice](https://site.test/t)<br>`a:`<br>`  - b \\| c` |",
        "| x | y<br>z |",
    ]


def test_table_in_a_cell_stays_in_its_row() -> None:
    named = "<table><tr><th>Kind<th>Max<tr><td>users<td>3<tr><td>disk<td>5 GB</table>"
    plain = "<table><tr><td>users<td>25</table>"
    page = f"<table><tr><th>Plan<th>Limits<tr><td>Basic<td>{named}<tr><td>Team<td>{plain}</table>"
    assert _rows(page)[1:] == ["| Basic | Kind: users; Max: 3<br>Kind: disk; Max: 5 GB |", "| Team | users: 25 |"]


@pytest.mark.parametrize(
    "page",
    [
        """<div role=table><div role=rowgroup><div role=row><span role=columnheader>Region</span>
        <span role=columnheader>Cost</span></div></div><div role=row><div role=rowheader>North</div>
        <div role=cell>4</div></div></div>""",
        """<x-grid role=grid><div><div role=row><div role=columnheader>Region</div>
        <div role=columnheader>Cost</div></div>
        <div role=row><div role=gridcell>North</div><div role=gridcell>4</div></div></div></x-grid>""",
        """<div style="display:table"><div style="display: table-row"><span style="display:table-cell">Region</span>
        <span style="display:table-cell">Cost</span></div><div style="display:table-row"><div style="display:table-cell"
        >North</div><div style="display:table-cell">4</div></div></div>""",
        "<table><form><tr><th>Region<th>Cost</tr><tr><td>North<td>4</tr></form></table>",
        "<table><tfoot><tr><td>North<td>4</tfoot><thead><tr><th>Region<th>Cost</thead></table>",
    ],
    ids=["roles", "grid", "styles", "form", "foot first"],
)
def test_whatever_is_shown_as_a_table_is_one(page: str) -> None:
    assert _rows(page) == ["| Region | Cost |", "| North | 4 |"]


def test_one_row_is_a_table_of_short_texts_only() -> None:
    assert _rows("<table><tr><td>Price<td>5 EUR</table>") == ["| Price | 5 EUR |"]
    assert markdown("<table><tr><td><p>a</p><p>b</p><td>c</table>") == "a\n\nb\n\nc\n"
    assert markdown("<table><tr><td><a href=/a>a</a><td><a href=/b>b</a></table>").count("|") == 0


def test_page_inside_a_table_stays_a_page() -> None:
    data = "<table><tr><td>Item<td>Price<tr><td>Rope<td>3</table>"
    page = f"<table><tr><td colspan=2>Banner<tr><td>News<td><h2>Title</h2><p>Text</p>{data}</table>"
    assert markdown(page) == "Banner\n\nNews\n\n## Title\n\nText\n\n| Item | Price |\n| --- | --- |\n| Rope | 3 |\n"
    columns = "".join(f"<td>{'<p>A sentence about the harbour and its boats.</p>' * 20}" for _ in range(2))
    assert markdown(f"<table><tr><td>a<td>b<tr>{columns}</table>").count("|") == 0


@pytest.mark.parametrize("attributes", ["border=1", "class='table table-striped'", ""])
def test_table_without_names_keeps_small_tables_in_their_cells(attributes: str) -> None:
    row = "<tr><td>{}<td>{} EUR<td><table><tr><td>users<td>{}</table>"
    page = f"<table {attributes}>{row.format('Basic', 9, 3)}{row.format('Team', 29, 25)}</table>"
    assert _rows(page) == ["| Basic | 9 EUR | users: 3 |", "| Team | 29 EUR | users: 25 |"]


def test_nothing_between_the_cells_is_lost() -> None:
    page = "<table>Text<tr><td>a<td>b</tr><tr><p>stray</p><td>c<td>d</tr></table>"
    assert markdown(page) == "Text\n\nstray\n\n| a | b |\n| --- | --- |\n| c | d |\n"


def test_list_laid_out_as_a_table_is_a_list() -> None:
    inner = "<table><tr><td>—<td>one<tr><td>—<td>two</table>"
    page = f"<table><tr><td>(a)<td><p>first;</p></table><table><tr><td>(b)<td><p>second:</p>{inner}</table>"
    assert markdown(page) == "- (a) first;\n\n- (b) second:\n  - one\n\n  - two\n"


def test_note_with_its_icon_in_a_table_stays_together() -> None:
    page = """<div class="admonitionblock note"><table><tr><td class=icon><div class=title>Note</div></td>
    <td><div class=paragraph><p>Mind the gap.</p></div><ul><li>a</ul></td></tr></table></div>"""
    assert markdown(page) == "**Note**\nMind the gap.\n\n- a\n"


def test_long_code_beside_its_text_keeps_its_lines() -> None:
    code = "\n".join(f"line {number}" for number in range(40))
    page = f"<table><tr><th>Before<th>After<tr><td><pre>{code}</pre><td><pre>{code}</pre></table>"
    assert markdown(page) == f"**Before**\n\n```\n{code}\n```\n\n**After**\n\n```\n{code}\n```\n"


@pytest.mark.parametrize(
    "page",
    [
        f"<table><tr><th>a<th>b<tr><td colspan=99 rowspan=65000>{'x' * 100_000}{'<tr><td>y' * 5000}</table>",
        "<table><tr><th colspan=99>a" * 40 + "<p>end</p>",
        "<table>" + "<tr><td rowspan=65000 colspan=100>z" * 20_000 + "</table>",
    ],
    ids=["long text", "nested", "many spans"],
)
def test_hostile_spans_take_neither_time_nor_space(page: str) -> None:
    started = time.process_time()
    assert len(markdown(page)) < 4 * len(page) + 200_000
    assert time.process_time() - started < 10
