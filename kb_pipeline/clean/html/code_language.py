"""Tells the language of a listing from the classes and attributes that highlighters and editors write."""

from __future__ import annotations

import re

from kb_pipeline.clean.html.code_text import Element

_NAME = re.compile(r"[A-Za-z0-9+#._-]{1,30}")
_PREFIXED = re.compile(
    r"(?:^|\s)(?:language|lang|highlight-source|highlight-text|highlight|brush)(?:-|:\s*)"
    r"([A-Za-z0-9+#._-]{1,30}?);?(?=\s|$)",
    re.I,
)
_PREFIXED_KNOWN = re.compile(
    r"(?:^|\s)(?:src|hljs|code|source|syntax|prism|wp-block-code)-([A-Za-z0-9+#._-]{1,30})(?=\s|$)", re.I
)
_BRUSH = re.compile(r"(?:^|[\s;])brush:\s*([A-Za-z0-9+#._-]{1,30})", re.I)
_MARKERS = re.compile(
    r"(?:^|\s)(?:hljs|sourcecode|highlight|syntaxhighlighter|prettyprint|prettyprinted|codehilite|shiki|chroma|"
    r"prism-code|dp-highlighter|highlighter-rouge|src|source|brush|code|code-block|codeblock|snippet|listing)(?=\s|$)",
    re.I,
)
_ATTRIBUTES = (
    "data-lang", "data-language", "data-code-language", "data-highlight-language", "data-enlighter-language",
    "data-canonical-lang", "data-ke-language", "data-syntax", "syntax", "language",
)  # fmt: skip
_PARAMETERS = ("data-syntaxhighlighter-params", "params")
_NO_LANGUAGE = frozenset({"default", "none", "text", "plaintext", "plain", "notranslate", "txt", "auto", "undefined"})
# Names that stand where a language may stand: parts of a code block, and switches of themes.
_NO_LANGUAGE_PARTS = re.compile(
    r"(?:.*[-_])?(?:container|wrapper|wrap|box|block|code|lines?|toolbar|body|area|content|contents|inner|header|title|"
    r"group|example|copy|snippet|fence|switcher?|selector|tabs?|item|row|cell|dark|light|theme|number|numbers|table|"
    r"pre|view|editor|panel|section|frame|output|input|result|label|badge)",
    re.I,
)
_KNOWN_TEXT = """
    abap actionscript ada apache applescript arduino asm assembly autohotkey awk bash basic bat batch bicep brainfuck
    c c++ clj clojure cmake cobol coffee coffeescript coldfusion common-lisp console cpp crystal cs csharp css csv cuda
    cython d dart delphi diff django docker dockerfile dos elisp elixir elm emacs-lisp erb erlang f# fish fortran fsharp
    gherkin glsl go golang gradle graphql groovy haml handlebars haskell haxe hcl html http idl ini ipython ipython3
    java javafx javascript jinja jinja2 js json json5 jsonc jsp jsx julia kotlin kql latex less liquid lisp livescript
    llvm lua make makefile markdown mathematica matlab md mdx mermaid mysql nasm nginx nim nix objc objective-c ocaml
    octave pascal perl pgsql php plsql postgresql powershell prolog properties proto protobuf ps1 puppet py pycon
    pytb python python3 r racket rake raku rb reason rego rest rst ruby rust sas sass scala scheme scss sh shell
    shell-session shellsession sml solidity sparql sql stata stylus svelte swift systemverilog tcl terraform tex toml
    ts tsql tsx turtle twig typescript v vala vb vb.net vbnet vbscript verilog vhdl vim vue wasm wat xhtml xml xquery
    xslt yaml yml zig zsh
"""
_KNOWN = frozenset(_KNOWN_TEXT.split())
_ANCESTORS = 3
_FRAMES = frozenset({"body", "main", "article", "section", "li", "td", "dd", "blockquote"})


def code_language(element: Element) -> str:
    """Return the language named by a listing, by its `code` or by the elements around it; empty if there is none."""
    names = (_named(candidate, is_code) for candidate, is_code in _candidates(element))
    return next((name for name in names if name), "")


def is_known(name: str) -> bool:
    """Return whether a label names a language."""
    return name.lower() in _KNOWN


def _candidates(element: Element) -> list[tuple[Element, bool]]:
    """Return the elements that may name the language, nearest first, and whether each holds nothing but the code."""
    inner = next(element.iterdescendants("code"), None)
    found = [(element, True)] if inner is None else [(element, True), (inner, True)]
    for ancestor, _ in zip(element.iterancestors(), range(_ANCESTORS), strict=False):
        if ancestor.tag in _FRAMES:
            break
        found.append((ancestor, ancestor.tag in ("pre", "code")))
    return found


def _named(element: Element, is_code: bool) -> str:
    classes = (element.get("class") or "")[:1000]
    parameters = next((value for name in _PARAMETERS if (value := element.get(name))), "")[:1000]
    brush = _BRUSH.search(parameters) or _BRUSH.search(classes)
    names = [brush[1]] if brush else []
    names += [element.get(name) or "" for name in _ATTRIBUTES]
    names += [found[1] for found in _PREFIXED.finditer(classes) if not _NO_LANGUAGE_PARTS.fullmatch(found[1])]
    names += [found[1] for found in _PREFIXED_KNOWN.finditer(classes) if found[1].lower() in _KNOWN]
    if is_code or _MARKERS.search(classes):
        names += [name for name in classes.split() if name.lower() in _KNOWN]
    if is_code:
        names += [name for name in (element.get("lang") or "",) if name.lower() in _KNOWN]
    return next((name.lower() for name in names if _is_language(name)), "")


def _is_language(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name.lower() not in _NO_LANGUAGE
