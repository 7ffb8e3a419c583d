"""What a click shows is in the document; what no reader brings to view is not, and is counted."""

from __future__ import annotations

import time

import pytest
from lxml.html import document_fromstring

from kb_pipeline.clean.html.removal import Removal
from kb_pipeline.clean.html.reveal import reveal
from kb_pipeline_tests.clean.pages import markdown

ARTICLE = "The lantern on the bridge is lit at dusk by the keeper, who walks up from the mill with a ladder. " * 4


def _markdown(part: str) -> str:
    return markdown(f"<body><main><h1>Guide</h1><p>{ARTICLE}</p>{part}<p>{ARTICLE}</p></main></body>")


def _in_order(text: str, *parts: str) -> bool:
    position = 0
    for part in parts:
        position = text.find(part, position)
        if position < 0:
            return False
    return True


QUESTIONS = {
    "bootstrap": "<h2><button class='accordion-button collapsed' type=button data-bs-toggle=collapse"
    " data-bs-target='#c1' aria-expanded=false>Who pays?</button></h2>"
    "<div id=c1 class='accordion-collapse collapse'>We pay within 14 days.</div>",
    "aria practices": "<h3><button aria-expanded=false aria-controls=s1><b>Who pays?</b><svg><path/></svg></button>"
    "</h3><div id=s1 role=region hidden><p>We pay within 14 days.</p></div>",
    "found by the browser": "<h3>Who pays?</h3><div hidden=until-found>We pay within 14 days.</div>",
    "list of definitions": "<dl><div><dt><button type=button>Who pays?</button></dt>"
    "<dd style='display: none'>We pay within 14 days.</dd></div></dl>",
    "button without a heading": "<div class=item><button aria-expanded=false aria-controls=p>Who pays?</button>"
    "<div id=p style='display:none'>We pay within 14 days.</div></div>",
    "button and panel by position": "<button class=collapsible>Payment of returns</button>"
    "<div class=content style='display:none'><p>We pay within 14 days.</p></div>",
    "panel hidden by a style sheet": "<button class=accordion>Payment of returns</button>"
    "<div class=panel>14 days</div>",
    "bootstrap 3": "<h4 class=panel-title><a data-toggle=collapse href='#c3'>Who pays?</a></h4>"
    "<div id=c3 class='panel-collapse collapse' aria-hidden=true>We pay within 14 days.</div>",
    "script that names the panel": "<b>Who pays?</b> <button onclick=\"toggle('a','x4')\">show</button>"
    "<div id=x4 style='display:none'>14 days</div>",
    "details": "<details><summary>Who pays?</summary><p>We pay within 14 days.</p></details>",
    "check box": "<input type=checkbox id=q1><label for=q1>Who pays?</label>"
    "<div class=answer style='visibility:hidden'>We pay within 14 days.</div>",
}


@pytest.mark.parametrize("part", QUESTIONS.values(), ids=QUESTIONS)
def test_question_and_the_answer_that_a_click_shows_are_read(part: str) -> None:
    text = _markdown(part)
    assert "Who pays?" in text or "**Payment of returns**" in text
    assert "14 days" in text


def test_button_in_a_heading_is_the_heading() -> None:
    part = "<h2><button aria-expanded=false>Long warranty</button></h2><div>36 months</div>"
    assert "\n## Long warranty\n\n36 months\n" in _markdown(part)


def test_command_beside_a_heading_is_no_part_of_it() -> None:
    assert "\n## Set up\n" in _markdown("<h2>Set up <button>Copy link</button></h2><p>Text</p>")


TABS = {
    "roles, by id": "<div role=tablist><button role=tab aria-controls=p1>npm</button>"
    "<button role=tab aria-controls=p2>yarn</button></div>"
    "<div id=p1 role=tabpanel><pre>npm i x</pre></div><div id=p2 role=tabpanel hidden><pre>yarn add x</pre></div>",
    "roles, by position": "<div class=tabs><ul role=tablist><li role=tab>npm</li><li role=tab>yarn</li></ul><div>"
    "<div role=tabpanel><pre>npm i x</pre></div><div role=tabpanel hidden><pre>yarn add x</pre></div></div></div>",
    "bootstrap": "<ul class='nav nav-tabs'><li class=nav-item role=presentation><button data-bs-toggle=tab"
    " data-bs-target='#a' role=tab>npm</button></li><li class=nav-item role=presentation><button data-bs-toggle=tab"
    " data-bs-target='#b' role=tab>yarn</button></li></ul><div class=tab-content><div class='tab-pane active' id=a>"
    "<pre>npm i x</pre></div><div class=tab-pane id=b><pre>yarn add x</pre></div></div>",
    "jquery": "<div id=tabs><ul><li><a href='#a'>npm</a></li><li><a href='#b'>yarn</a></li></ul>"
    "<div id=a><pre>npm i x</pre></div><div id=b style='display:none'><pre>yarn add x</pre></div></div>",
    "material": "<div class=tabbed-set><input type=radio id=t1 name=t><input type=radio id=t2 name=t>"
    "<div class=tabbed-labels><label for=t1>npm</label><label for=t2>yarn</label></div><div class=tabbed-content>"
    "<div class=tabbed-block><pre>npm i x</pre></div><div class=tabbed-block><pre>yarn add x</pre></div></div></div>",
    "sphinx-design": "<div class=sd-tab-set><input type=radio id=t1><label for=t1>npm</label><div><pre>npm i x</pre>"
    "</div><input type=radio id=t2><label for=t2>yarn</label><div><pre>yarn add x</pre></div></div>",
    "labels, then panels": "<div class=tabs><input type=radio id=t1 name=t><label for=t1>npm</label>"
    "<input type=radio id=t2 name=t><label for=t2>yarn</label><div class=panel><pre>npm i x</pre></div>"
    "<div class=panel><pre>yarn add x</pre></div></div>",
    "vitepress": "<div class=vp-code-group><div class=tabs><input type=radio id=t1><label for=t1>npm</label>"
    "<input type=radio id=t2><label for=t2>yarn</label></div><div class=blocks><div><pre>npm i x</pre></div>"
    "<div><pre>yarn add x</pre></div></div></div>",
}


@pytest.mark.parametrize("part", TABS.values(), ids=TABS)
def test_label_of_a_tab_stands_before_its_panel(part: str) -> None:
    text = _markdown(part)
    assert _in_order(text, "**npm**", "npm i x", "**yarn**", "yarn add x")
    assert text.count("npm") == 2


def test_table_of_contents_is_not_taken_for_tabs() -> None:
    part = "<ul><li><a href='#a'>Oil</a></li><li><a href='#b'>Paint</a></li></ul><h2 id=a>Oiling</h2><p>May</p>"
    assert "**Oil**" not in _markdown(part + "<div id=b><h2>Painting</h2><p>June</p></div>")


def test_every_slide_is_read_once() -> None:
    slides = (
        "<div class='slide slick-cloned' aria-hidden=true>Wednesday: pancakes</div><div class=slide>Monday: soup</div>"
    )
    text = _markdown(f"<div class=carousel>{slides}<div class=slide aria-hidden=true>Wednesday: pancakes</div></div>")
    assert text.count("Wednesday: pancakes") == 1
    assert "Monday: soup" in text


def test_rest_of_a_text_behind_read_more_is_read() -> None:
    part = "<p>The mill<span id=dots>...</span><span id=more style='display:none'> stands by the river Ouse.</span></p>"
    assert "stands by the river Ouse" in _markdown(f"{part}<button onclick='f()'>Read more</button>")


def test_shadow_root_is_read_with_its_slots_filled() -> None:
    part = (
        "<doc-card><template shadowrootmode=open><style>p{}</style><h2>Returns</h2><slot name=term>any time</slot>"
        "<p>to our hall</p><slot></slot></template><p>in its box</p><b slot=term>Within 45 days</b></doc-card>"
    )
    text = _markdown(part)
    assert _in_order(text, "## Returns", "Within 45 days", "to our hall", "in its box")
    assert "any time" not in text


def test_default_of_an_empty_slot_is_read_and_other_templates_are_not() -> None:
    text = _markdown(
        "<x-a><template shadowrootmode=open><slot>Nobody yet</slot></template></x-a><template>raw</template>"
    )
    assert "Nobody yet" in text
    assert "raw" not in text


def test_document_inside_a_frame_is_read() -> None:
    text = _markdown("<iframe srcdoc='<script>x()</script><p>A demo of quinces</p>'></iframe><p>After it</p>")
    assert _in_order(text, "A demo of quinces", "After it")
    assert "x()" not in text


def test_fields_that_show_data_are_read() -> None:
    part = (
        "<dl><dt>IBAN</dt><dd><input readonly value='XX12 3456'></dd><dt>Name</dt><dd><input value=Ada disabled></dd>"
    )
    text = _markdown(
        f"{part}<dt>Total</dt><dd><output>74 EUR</output></dd><dt>Yours</dt><dd><input value=typed></dd></dl>"
    )
    assert _in_order(text, "XX12 3456", "Ada", "74 EUR")
    assert "typed" not in text


def test_state_of_boxes_in_lists_is_read_but_not_of_boxes_to_fill_in() -> None:
    tasks = "<li><input type=checkbox checked disabled> Oil the gate</li><li><input type=checkbox disabled> Paint</li>"
    text = _markdown(
        f"<ul>{tasks}</ul><form><ul><li><input type=checkbox name=c> Red</li></ul><button>Filter</button></form>"
    )
    assert "[x] Oil the gate" in text
    assert "[ ] Paint" in text
    assert "[ ] Red" not in text


def test_button_in_a_sentence_is_a_word_of_it() -> None:
    text = _markdown(
        "<ol><li>Press <button class=btn>Save</button>.</li><li>Then <input type=button value=Close></li></ol>"
    )
    assert "Press Save." in text
    assert "Then Close" in text


def test_button_that_a_row_is_about_is_read_but_not_a_command_for_the_row() -> None:
    row = "<tr><td><button>Save</button></td><td>Stores the file</td><td><button>Buy</button></td></tr>"
    text = _markdown(f"<table><tr><th>Key</th><th>Does</th><th></th></tr>{row}</table>")
    assert "| Save | Stores the file |" in text
    assert "Buy" not in text


def test_rows_and_items_beyond_the_first_are_read() -> None:
    rows = "<tr><th>Brush</th><td>4 EUR</td></tr><tr style='display:none'><th>Oil</th><td>11 EUR</td></tr>"
    items = "<li><a href=/1>gate 2.4</a></li><li hidden><a href=/2>gate 2.3</a></li>"
    text = _markdown(f"<table>{rows}</table><ul>{items}</ul><a href='#' class=more>Show more</a>")
    assert "11 EUR" in text
    assert "gate 2.3" in text
    assert "Show more" not in text


def test_anchor_that_nobody_closed_keeps_what_it_holds() -> None:
    rows = "".join(f"<p>Rope of {number} metres</p>" for number in range(60))
    assert "Rope of 59 metres" in _markdown(f"<div><a name=top><b>Prices{rows}</div>")


def test_title_that_begins_like_a_command_is_kept() -> None:
    part = "<button aria-expanded=false aria-controls=e>Edit your profile</button><div id=e hidden>Press F2</div>"
    assert _in_order(_markdown(part), "**Edit your profile**", "Press F2")


def test_select_that_cannot_be_changed_shows_its_choice() -> None:
    text = _markdown("<p>Zone: <select disabled><option>A</option><option selected>North</option></select></p>")
    assert "Zone: North" in text


@pytest.mark.parametrize(
    "part",
    [
        "<a href='#main'>Skip to main content of junk</a>",
        "<p>The lamp is lit. <button>Copy link</button></p><button>junk</button>",
        "<div role=dialog aria-modal=true hidden><p>Junk of a dialog that somebody wrote</p></div>",
        "<dialog><p>Junk of a dialog that somebody wrote</p></dialog>",
        "<div class=mobile-menu style='display:none'><a href=/1>Junk</a><a href=/2>Shirts</a></div>",
        "<div class=cookie-banner><p>We use cookies. Junk.</p><button>Accept all</button></div>",
        "<div aria-label='Cookie banner' role=region><p>Junk and cookies.</p><button>Alle akzeptieren</button></div>",
        "<form action=/s role=search><label>Junk</label><input type=search name=q><button>Go</button></form>",
        "<form><p>Log in for junk</p><label>Junk</label><input name=u><input type=password><button>In</button></form>",
        "<form><p>Junk in your letter box</p><input type=email placeholder=you><button>Subscribe</button></form>",
        "<button>Junk</button>",
        "<button aria-expanded=false aria-controls=n>Junk</button><ul id=n hidden><li><a href=/>Junk</a></li></ul>",
        "<div class=toast style='display:none'>Junk was copied to the clipboard</div>",
        "<div role=status hidden>Junk that is loading for you now</div>",
        "<span itemprop=name style='display:none'>Junk for machines only, please</span>",
        "<select name=v><option>Junk 1</option><option>Junk 2</option></select>",
        "<p>See <i class=material-icons aria-hidden=true>junk</i> there</p>",
    ],
)
def test_what_only_does_something_is_left_out(part: str) -> None:
    assert "junk" not in _markdown(part).lower()


def test_hidden_copy_of_visible_text_is_read_once() -> None:
    card = "<p>The ferry leaves at eight from the old pier.</p><p>Bicycles cost 12 crowns.</p>"
    text = _markdown(f"<div class=desktop>{card}</div><div class=phone style='display:none'>{card}</div>")
    assert text.count("Bicycles cost 12 crowns") == 1


def test_form_that_is_the_page_keeps_its_text_and_labels() -> None:
    page = "<body><form id=aspnetForm><input type=hidden name=__VIEWSTATE value=xyz><h1>Permits</h1>"
    text = markdown(f"{page}<p>{ARTICLE}</p><label for=z>Zone</label><select id=z><option>A</option></select></form>")
    assert "# Permits" in text
    assert "bridge is lit" in text


def test_price_in_the_form_of_a_shop_is_read() -> None:
    part = "<form action=/cart><p class=price>74.50 EUR</p><label>Size <select><option>S</option></select></label>"
    text = _markdown(f"{part}<button>Add to basket</button></form>")
    assert "74.50 EUR" in text
    assert "Add to basket" not in text


def test_page_that_scripts_uncover_is_read() -> None:
    assert "bridge is lit" in markdown(
        f"<body><div id=page style='visibility:hidden'><h1>Mill</h1><p>{ARTICLE}</p></div>"
    )


def test_what_is_removed_is_counted_once_by_reason() -> None:
    tree = document_fromstring(
        f"<body><main><p>{ARTICLE}</p><div hidden><a href=/1>one two</a><span hidden>three</span></div>"
        "<div role=dialog>four five<script>not_counted()</script></div></main></body>"
    )
    removal = Removal()
    reveal(tree, removal)
    assert dict(removal.words) == {"hidden": 3, "controls": 2}


@pytest.mark.parametrize(
    "part",
    [
        "<div hidden>" * 1500 + "deep" + "</div>" * 1500,
        "<div class=cookie><button>" * 1000,
        "<h2>" + "<button>a</button>b" * 20_000 + "</h2>",
        "<p>" + "<span aria-hidden=true>x</span>" * 30_000,
        "<ul role=tablist>" + "<li role=tab>t" * 10_000 + "</ul>" + "<div role=tabpanel>p</div>" * 10_000,
        "<x-a><template shadowrootmode=open><slot></slot></template>" * 1000,
        "<div class='item cloned'>a b<span>c</span>" * 1000,
        "<form><label>a<input>" * 3000,
    ],
)
def test_hostile_pages_take_no_quadratic_time(part: str) -> None:
    tree = document_fromstring(f"<body><p>{ARTICLE}</p>{part}</body>")
    started = time.process_time()
    reveal(tree, Removal())
    assert time.process_time() - started < 5
