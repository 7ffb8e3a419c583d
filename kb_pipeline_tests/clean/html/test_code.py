"""Listings as highlighters, editors and generators of documentation write them."""

from __future__ import annotations

import re

import pytest

from kb_pipeline_tests.clean.pages import markdown

CODE = "def area(r):\n    # metres\n    if r < 0:\n        raise ValueError(r)\n\n    return 3.14 * r ** 2"

# What stands in [[ ]] is repeated for each line: {L} is the line, {S} indents it by no-break spaces, {N} is its number.
LISTINGS = {
    "br": "<pre>[[{L}<br>]]</pre>",
    "line breaks in spans of their own": "<pre>[[{L}<span>\n</span>]]</pre>",
    "carriage returns": "<pre>[[<b></b>{L}\r\n]]</pre>",
    "div a line": "<pre><code>[[<div>{L}</div>]]</code></pre>",
    "div a line, with line breaks between": "<pre><code>[[<div>{L}</div>\n]]</code></pre>",
    "div a line that ends with br": "<pre>[[<div><span>{L}</span><br></div>]]</pre>",
    "paragraph a line": "<pre>[[<p>{L}</p>]]</pre>",
    "item a line": "<pre class=prettyprint><ol class=linenums>[[<li class=L1><span>{L}</span></li>]]</ol></pre>",
    "code a line": "<pre>[[<code>{L}</code>]]</pre>",
    "span a line by class": "<pre><code>[[<span class=line>{L}</span>]]</code></pre>",
    "span a line by class, with line breaks": "<pre><code>[[<span class=line>{L}</span>\n]]</code></pre>",
    "span a line by style": "<pre><code>[[<span style='display: block'>{L}</span>]]</code></pre>",
    "span a line by data": "<pre><code>[[<span data-line=''>{L}</span>\n]]</code></pre>",
    "row a line": (
        "<pre><code class='hljs python'><table class=hljs-ln>[[<tr>"
        "<td class=hljs-ln-numbers data-line-number={N}><div data-line-number={N}></div></td>"
        "<td class=hljs-ln-code data-line-number={N}>{L}</td></tr>]]</table></code></pre>"
    ),
    "row a line, with numbers as text": (
        "<pre class=code><table>[[<tr><td class=lineno>{N}</td><td class=code-line>{L}</td></tr>]]</table></pre>"
    ),
    "Doxygen": (
        "<div class=fragment>[[<div class=line><a id=l{N}></a><span class=lineno>   {N}</span>&#160;{L}</div>"
        "\n]]<div class=ttc id=a1><div class=ttname>area</div></div></div>"
    ),
    "Doxygen without numbers": "<div class=fragment>[[<div class=line>{S}</div>\n]]</div><!-- fragment -->",
    "Doxygen with folds": "<div class=fragment><div class=foldopen>[[<div class=line>{L}</div>\n]]</div></div>",
    "SyntaxHighlighter": (
        "<div class='syntaxhighlighter python'><table><tr><td class=gutter>[[<div class='line number{N}'>"
        "{N}</div>]]</td><td class=code><div class=container>[[<div class='line number{N}'>"
        "<code class='python plain'>{S}</code></div>]]</div></td></tr></table></div>"
    ),
    "Crayon": (
        "<table class=crayon-table><tr><td class=crayon-nums>[[<div class=crayon-num>{N}</div>]]</td>"
        "<td class=crayon-code><div class=crayon-pre>[[<div class=crayon-line>{S}</div>]]</div></td></tr>"
        "</table>"
    ),
    "CodeMirror 5": (
        "<div class=CodeMirror><textarea></textarea><div class=CodeMirror-code>"
        "[[<div style='position: relative'><div class=CodeMirror-gutter-wrapper>"
        "<div class=CodeMirror-linenumber>{N}</div></div><pre class=CodeMirror-line><span>{L}</span></pre>"
        "</div>]]</div></div>"
    ),
    "CodeMirror 6": (
        "<div class=cm-editor><div class=cm-scroller><div class=cm-gutters><div class=cm-gutter>"
        "[[<div class=cm-gutterElement>{N}</div>]]</div></div><div class=cm-content>[[<div class=cm-line>"
        "{L}</div>]]</div></div></div>"
    ),
    "ACE": (
        "<div class=ace_editor><div class=ace_gutter>[[<div class=ace_gutter-cell>{N}</div>]]</div>"
        "<div class=ace_scroller><div class='ace_layer ace_text-layer'>[[<div class=ace_line_group>"
        "<div class=ace_line>{L}</div></div>]]</div></div></div>"
    ),
    "Expressive Code": (
        "<figure><pre data-language=python><code>[[<div class=ec-line><div class=gutter><div class=ln>{N}</div>"
        "</div><div class=code>{L}</div></div>]]</code></pre></figure>"
    ),
    "Hugo table": (
        "<div class=highlight><table class=lntable><tr><td class=lntd><pre><code>[[<span class=lnt>"
        "{N}\n</span>]]</code></pre></td><td class=lntd><pre><code class=language-python>[[<span class=line>"
        "<span>{L}\n</span></span>]]</code></pre></td></tr></table></div>"
    ),
    "Hugo inline": (
        "<pre><code>[[<span class=line><span class=ln>{N}</span><span class=cl>{L}\n</span></span>]]</code></pre>"
    ),
    "Hexo": (
        "<figure class='highlight python'><table><tr><td class=gutter><pre>[[<span class=line>{N}</span><br>]]"
        "</pre></td><td class=code><pre>[[<span class=line>{L}</span><br>]]</pre></td></tr></table></figure>"
    ),
    "react-syntax-highlighter": (
        "<pre><code style='float: left'>[[<span>{N}\n</span>]]</code><code class=language-python>[[{L}\n]]</code></pre>"
    ),
    "react-syntax-highlighter inline": (
        "<pre><code>[[<span style='min-width: 2em'>{N}</span><span>{L}\n</span>]]</code></pre>"
    ),
    "Pygments inline": "<pre><span></span>[[<span class=linenos> {N} </span>{L}\n]]</pre>",
    "Pygments table": (
        "<table class=highlighttable><tr><td class=linenos><div class=linenodiv><pre>[[<span class=normal>"
        "{N}</span>\n]]</pre></div></td><td class=code><div><pre><span></span>[[{L}\n]]</pre></div></td></tr>"
        "</table>"
    ),
    "numbers as one text before the code": "<pre><span>[[{N}\n]]</span><code>[[{L}\n]]</code></pre>",
    "numbers beside the pre": "<div><div>[[<a href='#L1'>{N}</a>]]</div><pre>[[{L}\n]]</pre></div>",
    "GitHub": (
        "<table class=highlight>[[<tr><td class=blob-num data-line-number={N}></td><td class=blob-code>{L}</td>"
        "</tr>\n]]</table>"
    ),
    "numbered rows with white space by style": (
        "<table>[[<tr><td>{N}</td><td style='white-space: pre'>{L}</td></tr>]]</table>"
    ),
    "cgit": (
        "<table class=blob><tr><td class=linenumbers><pre>[[<a href='#n{N}'>{N}</a>\n]]</pre></td>"
        "<td class=lines><pre><code>[[{L}\n]]</code></pre></td></tr></table>"
    ),
    "read-only field": "<textarea readonly>[[{L}\n]]</textarea>",
    "white space by a rule of the page": (
        "<style>p, div.k { white-space:pre-wrap }</style><div class=k>[[{L}\n]]</div>"
    ),
    "code alone, with br": "<p><code>[[{S}<br>]]</code></p>",
    "box of a forum": "<div class=code>[[{S}<br />\n]]</div>",
    "highlighted code without pre": "<div><code class='hljs language-python'>[[{L}\n]]</code></div>",
}

_REPEATED = re.compile(r"(?s)\[\[(.*?)\]\]")


def _page(listing: str, start: int) -> str:
    lines = [line.replace("<", "&lt;") for line in CODE.split("\n")]

    def expand(found: re.Match[str]) -> str:
        return "".join(_line(found[1], number, line) for number, line in enumerate(lines, start))

    return f"<h1>Areas</h1><p>See this:</p>{_REPEATED.sub(expand, listing)}<p>That was it.</p>"


def _line(template: str, number: int, line: str) -> str:
    spaced = line.replace("    ", "&nbsp;" * 4)
    return template.replace("{L}", line).replace("{S}", spaced).replace("{N}", str(number))


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("start", [1, 98])
def test_listing_keeps_its_lines_and_loses_its_numbers(name: str, start: int) -> None:
    found = markdown(_page(LISTINGS[name], start))
    before, _, fenced = found.partition("```")
    code, _, after = fenced.partition("\n```\n")
    assert before == "# Areas\n\nSee this:\n\n", found
    lines = code.partition("\n")[2].rstrip("\n").split("\n")
    assert "\n".join(line.rstrip() for line in lines) == CODE
    assert after == "\nThat was it.\n", found


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (
            "<table><tr><th>#<th>Command<tr><td>1<td><code>apt</code><tr><td>2<td><code>yum</code></table>",
            "| 2 | `yum` |",
        ),
        ("<table><tr><td>1<td>Alice<tr><td>2<td>Bob</table>", "| 2 | Bob |"),
        ("<table><tr><td>1<td><pre>make</pre></table>", "1\n\n```\nmake\n```"),
        ("<pre><span class=mi>1</span> a\n<span class=mi>2</span> b</pre>", "```\n1 a\n2 b\n```"),
        ("<pre><span>10</span> PRINT\n<span>20</span> GOTO 10</pre>", "```\n10 PRINT\n20 GOTO 10\n```"),
        ("<pre>1\n2\n3</pre>", "```\n1\n2\n3\n```"),
        ("<pre><span class=line>1</span>\n<span class=line>2</span></pre>", "```\n1\n2\n```"),
        ("<p>1</p><p>2</p><pre>a\nb</pre>", "1\n\n2\n\n```\na\nb\n```"),
    ],
)
def test_numbers_that_are_data_stay(page: str, expected: str) -> None:
    assert expected in markdown(page)


def test_lines_of_a_poem_are_no_code() -> None:
    assert "```" not in markdown("<div class=line-block><div class=line>Roses</div><div class=line>Violets</div></div>")
    assert "```" not in markdown("<div class=highlight><p>A remark.</p><p>Another.</p></div>")


def test_code_with_breaks_inside_text_has_a_span_for_each_line() -> None:
    assert markdown("<p>Call <code>open()<br>open(slow)</code> first.</p>") == "Call `open()`\n`open(slow)` first.\n"
    assert markdown("<dl><dt><code>open()<br>open(slow)</code><dd>x</dl>") == "`open()`\n`open(slow)`\nx\n"
    table = "<table><tr><th>Call<th>Effect<tr><td><code>open()<br>open(slow)</code><td>opens</table>"
    assert re.search(r"\| `open\(\)`( |<br>)`open\(slow\)` \| opens \|", markdown(table))


def test_lines_of_shown_white_space_stay_lines_where_it_is_prose() -> None:
    page = "<div style='white-space: pre-line'>Dear Sir,\nI write to you\nwith love.</div>"
    assert markdown(page) == "Dear Sir,\nI write to you\nwith love.\n"
    page = "<p style='white-space: pre-line'>Dear <b>Sir</b>,\nI write <i>to\nyou</i> with\nlove.</p>"
    assert " ".join(markdown(page).replace("*", "").split()) == "Dear Sir, I write to you with love."


def test_title_stays_and_what_copies_code_goes() -> None:
    page = """<pre><div><span>main.py</span><button>Copy code</button></div><div><code>ls</code></div></pre>
    <div><pre>cd</pre><a class=copy-btn>Copy</a><span class=copied>Copied!</span></div>"""
    assert markdown(page) == "main.py\n\n```\nls\n```\n\n```\ncd\n```\n"
    assert markdown("<pre><div>bash</div><code>ls</code></pre>") == "```bash\nls\n```\n"
    assert markdown("<p>a</p><pre>b</pre><p>Copy</p>") == "a\n\n```\nb\n```\n\nCopy\n"


def test_prompt_stays_as_shown() -> None:
    page = "<pre><span class=gp>$ </span>ls\n<span class=prompt style='user-select: none'># </span>cd</pre>"
    assert markdown(page) == "```\n$ ls\n# cd\n```\n"


@pytest.mark.parametrize(
    ("listing", "language"),
    [
        ("<pre class='lang:python decode:true'>x</pre>", "python"),
        ("<pre lang=php>x</pre>", "php"),
        ("<pre lang=en>x</pre>", ""),
        (
            "<div class=sourceCode><pre class='sourceCode ruby'><code class='sourceCode ruby'>x</code></pre></div>",
            "ruby",
        ),
        ("<figure class='highlight java'><pre>x</pre></figure>", "java"),
        ("<pre class='src src-emacs-lisp'>x</pre>", "emacs-lisp"),
        ("<pre class='brush: js; toolbar: false'>x</pre>", "js"),
        ("<pre data-syntaxhighlighter-params='brush: bash; gutter: false'>x</pre>", "bash"),
        ("<pre data-enlighter-language=rust>x</pre>", "rust"),
        ("<pre data-language=ts><code>x</code></pre>", "ts"),
        ("<pre><code class=language-objective-c>x</code></pre>", "objective-c"),
        ("<pre class='programlisting language-c++'>x</pre>", "c++"),
        ("<div class=highlight-source-shell><pre>x</pre></div>", "shell"),
        ("<div class=language-plaintext><pre>x</pre></div>", ""),
        ("<div class='highlight-wrapper code-block'><pre class=screen>x</pre></div>", ""),
    ],
)
def test_language_is_found_where_highlighters_write_it(listing: str, language: str) -> None:
    assert f"```{language}\nx\n```\n" in markdown(f"<p>See:</p>{listing}")


def test_signature_of_javadoc_keeps_its_lines() -> None:
    page = """<div class="member-signature"><span>public</span>&nbsp;void&nbsp;<span>shut</span><wbr>(int&nbsp;a,
 int&nbsp;b)</div>"""
    assert markdown(page) == "```\npublic void shut(int a,\n int b)\n```\n"
