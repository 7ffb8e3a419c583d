"""The manuals of the reading benchmark: Debian packages of documentation, and what is what on each generator's pages.

The XPaths say it independently of the code that is measured: they were read off the pages of each generator.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_PAGE_BYTES = 600_000


@dataclass(frozen=True)
class Generator:
    """One generator of manuals, the package with its pages, and the parts of a page."""

    name: str
    package: str
    pages: str
    """Regular expression of the pages' paths within the package's documentation."""
    region: str
    """XPath of what a person reads; its parts are joined in document order."""
    boilerplate: str = ""
    """XPath of navigation and the like inside of the region; all that stands outside is boilerplate anyway."""
    optional: str = ""
    """XPath of what may be kept or left out: signs that link to a heading, lists of contents, buttons' labels."""
    code: str = ".//pre"
    """XPath of the blocks of code, from the region."""


def _has_class(*names: str) -> str:
    """Return an XPath condition: the element has one of these classes."""
    return " or ".join(f"contains(concat(' ', normalize-space(@class), ' '), ' {name} ')" for name in names)


GENERATORS = (
    Generator(
        "mdBook", "rust-doc", r"html/(book|reference|nomicon|rustc|edition-guide|embedded-book)/(?!print|toc).*",
        "//main", optional=f"//*[{_has_class('boring', 'buttons')}]",
    ),
    Generator(
        "rustdoc", "rust-doc", r"html/std/.*", "//section[@id='main-content']",
        optional=f"//*[{_has_class('out-of-band', 'rightside', 'hideme', 'anchor', 'test-arrow', 'srclink', 'since')}]"
        f" | //*[{_has_class('notable-traits', 'tooltip')}]",
    ),
    Generator(
        "YARD", "yard-doc", r"doc/(?!.*_list|_index|frames).*", "//div[@id='content']",
        f"//*[{_has_class('summary_toggle', 'constants_summary_toggle')}]",
        f"//*[{_has_class('lines', 'toggleSource', 'inheritanceTree', 'showSource')}]",
        code=f".//pre[not({_has_class('lines')})]",
    ),
    Generator(
        "Apache", "apache2-doc", r"manual/en/.*", "//div[@id='page-content']",
        f"//*[{_has_class('toplang', 'bottomlang')}]",
        f"//div[@id='quickview'] | //*[{_has_class('permalink', 'top')}]",
    ),
    Generator(
        "SQLite", "sqlite3-doc", r"(?!.*(toc|sitemap|keyword_index)).*", "//body",
        f"//body/div[{_has_class('nosearch')}][.//form]",
        f"//*[{_has_class('fancy_title', 'fancy_toc', 'imgcontainer')}]",
    ),
    Generator(
        "Node.js", "nodejs-doc", r"api/(?!all|index).*", "//div[@id='apicontent']",
        optional=f"//*[{_has_class('mark')}]", code=".//pre[count(code) < 2] | .//pre[count(code) > 1]/code",
    ),
    Generator(
        "LibreOffice", "libreoffice-help-en-us", r".*/text/.*", "//div[@id='DisplayArea']",
        optional=f"//*[{_has_class('relatedtopics', 'howtoget')}]",
    ),
    Generator(
        "Yodl", "zsh-doc", r"html/FAQ\d+.*", "//body",
        "//body/ul[li/a[contains(., 'Chapter') or contains(., 'Table of Contents')] and count(li) < 4]",
    ),
    Generator(
        "texi2any tables", "zsh-doc", r"html/(?!FAQ|The-Zsh-FAQ|.*Index).*", "//body",
        f"//table[{_has_class('header')}] | //body/font | //p[font/em]",
        f"//table[{_has_class('menu')}] | //*[{_has_class('copiable-anchor')}]",
    ),
    Generator(
        "texi2any", "maxima-doc", r"html/maxima_(?!toc|.*[Ii]ndex).*", "//body", f"//div[{_has_class('header')}]",
        f"//*[{_has_class('menu', 'section-toc', 'copiable-anchor', 'index-entry')}]",
    ),
    Generator(
        "Doxygen", "libeigen3-doc", r"html/(?!.*(search/|_source|files|functions|hierarchy)).*",
        f"//div[@id='doc-content']/div[{_has_class('header')}] | //div[{_has_class('contents')}]",
        optional=f"//*[{_has_class('summary', 'ingroups', 'dynheader', 'dyncontent', 'permalink', 'ttc', 'lineno')}]",
        code=f".//div[{_has_class('fragment')}] | .//pre",
    ),
    Generator(
        "Doxygen sources", "libeigen3-doc", r"html/.*_source.*",
        f"//div[@id='doc-content']/div[{_has_class('header')}] | //div[{_has_class('contents')}]",
        optional=f"//*[{_has_class('summary', 'ttc', 'lineno')}]", code=f".//div[{_has_class('fragment')}]",
    ),
    Generator(
        "Javadoc 8", "libjsoup-java-doc", r"api/org/.*", "//main", optional=f"//*[{_has_class('tabEnd')}]",
    ),
    Generator(
        "Javadoc 17", "gradle-doc", r"api/org/.*", "//main", optional=f"//*[{_has_class('anchor-link')}]",
    ),
    Generator(
        "Sphinx", "python-django-doc", r"html/(?!genindex|search|py-modindex|_modules).*", "//div[@id='yui-main']",
        optional=f"//*[{_has_class('headerlink')}]",
    ),
    Generator(
        "DocBook", "postgresql-doc-15", r"html/(?!index|bookindex).*", "//body",
        f"//*[{_has_class('navheader', 'navfooter')}]", f"//*[{_has_class('toc', 'id_link')}]",
    ),
    Generator(
        "AsciiDoc", "git-doc", r"[^/]*|(howto|technical)/.*",
        "//div[@id='header' or @id='content' or @id='footnotes']", optional="//div[@id='toc']",
    ),
    Generator(
        "gtk-doc", "libglib2.0-doc", r"html/(?!.*index-).*", "//body",
        f"//table[{_has_class('navigation')}] | //div[{_has_class('footer')}]",
        f"//*[{_has_class('toc', 'listing_lines')}]", code=f".//pre[not(ancestor::td[{_has_class('listing_lines')}])]",
    ),
    Generator(
        "Haddock", "libghc-text-icu-doc", r"html/(?!src/|.*doc-index).*", "//div[@id='content']",
        optional=f"//div[@id='table-of-contents'] | //*[{_has_class('selflink')}] | //a[@class='link']",
    ),
    Generator(
        "pydoctor", "twisted-doc", r"html/api/(?!.*[iI]ndex|undoc|.*Order).*", "//div[@id='main']",
        "//div[@id='current-docs-container'] | //div[@id='search-results-container']",
        f"//*[{_has_class('sourceLink', 'headerLink')}] | //a[@id='showprivate'] | //*[@id='showPrivate']",
    ),
    Generator(
        "EDoc", "erlang-doc", r"lib/stdlib.*/html/.*", "//div[@id='content']", f"//*[{_has_class('footer')}]",
        f"//*[{_has_class('title_link')}]",
    ),
    Generator(
        "ocamldoc", "libbatteries-ocaml-doc", r"html/api/(?!index|type_).*", "//body",
        f"//div[{_has_class('navbar')}]",
    ),
    Generator(
        "RDoc", "asciidoctor-doc", r"html/(?!.*(table_of_contents|index)).*", "//main",
        optional=f"//*[{_has_class('method-click-advice')}] | //h1/span | //h2/span | //h3/span",
    ),
    Generator(
        "MkDocs", "mkdocs-doc", r"html/(?!404|.*search).*", "//div[@role='main']",
        optional=f"//*[{_has_class('headerlink', 'toclink')}]",
    ),
)  # fmt: skip


def unpacked(package: str, cache: Path) -> Path:
    """Download a package unless the cache has it; return the folder that it is unpacked in.

    Raises:
        CalledProcessError: apt or dpkg failed.
    """
    folder = cache / package
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as downloads:
            command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "-qq", package]
            subprocess.run(command, cwd=downloads, check=True)
            (archive,) = Path(downloads).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, Path(downloads) / "unpacked"], check=True)
            (Path(downloads) / "unpacked").rename(folder)
    return folder


def sample(generator: Generator, folder: Path, count: int) -> list[Path]:
    """Return up to `count` of a generator's pages, spread evenly over their sorted paths."""
    pages = sorted(_pages(generator, folder))
    if len(pages) <= count:
        return pages
    return [pages[position * len(pages) // count] for position in range(count)]


def _pages(generator: Generator, folder: Path) -> Iterator[Path]:
    wanted = re.compile(rf"(?:.*/)?{generator.pages}")
    for path in folder.rglob("*"):
        if path.suffix not in (".html", ".htm", ".xhtml") or path.is_symlink() or not path.is_file():
            continue
        if 200 < path.stat().st_size <= MAX_PAGE_BYTES and wanted.fullmatch(_within(path, folder)):
            yield path


def _within(path: Path, folder: Path) -> str:
    return re.sub(r"^usr/(?:share|lib)/(?:doc/)?[^/]+/", "", path.relative_to(folder).as_posix())
