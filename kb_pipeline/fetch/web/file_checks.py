"""Checks what a KB file says of a web site beyond its single fields: globs that are none, or that leave nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, product
from urllib.parse import urlsplit

from kb_pipeline.errors import Problem
from kb_pipeline.fetch.web.crawl.scope import PathFilter, glob_problem
from kb_pipeline.spec.sources import WebSource
from kb_pipeline.urls import canonical_url, folder_of

_OTHER_LANGUAGE = re.compile(r"[][{}|\\^$]|\.\*|\(\?|\s")
"""What shells' globs and regular expressions have; here it would stand for itself, which hardly any path has."""
_MOST_SAMPLES = 200


def glob_problems(given: WebSource) -> Iterator[Problem]:
    """Yield the path globs that are none, or that are written as something else."""
    for field, globs in (("include", given.include), ("exclude", given.exclude)):
        for number, glob in enumerate(globs):
            problem = glob_problem(glob)
            if problem is None and glob.startswith("*") and not glob.startswith("**"):
                problem = "a path begins with /, which a single * does not stand for"
            if problem is None and _OTHER_LANGUAGE.search(glob):
                problem = "* stands for any part of one segment and ** for any path; there are no classes, choices or "
                problem += "regular expressions: write one glob for each"
            if problem is not None:
                yield Problem(f"{field}.{number}", repr(glob), problem, _meant(glob))


def _meant(glob: str) -> str:
    """Return what was probably meant: the path of a URL, one without its slash, a regular expression's `.*`."""
    bare = glob.strip().removeprefix("^").removesuffix("$").replace(".*", "**").replace("***", "**")
    bare = bare.partition("?")[0].partition("#")[0]
    path = urlsplit(bare).path if "://" in bare else bare
    host, slash, rest = path.partition("/")
    if "." in host and slash:  # docs.example.com/guide/**
        path = f"/{rest}"
    if re.match(r"\*(?!\*)", path):
        path = f"**/{path}"
    meant = path if path.startswith(("/", "*")) else f"/{path}"
    is_glob = meant != glob and glob_problem(meant) is None and not _OTHER_LANGUAGE.search(meant)
    return f"did you mean {meant}?" if path and is_glob else ""


def empty_warnings(given: WebSource) -> Iterator[str]:
    """Yield that include, exclude and scope together leave no page, or that an include glob is of no use."""
    if any(glob_problem(glob) for glob in (*given.include, *given.exclude)):
        return
    folders = _folders(given)
    useless = [glob for glob in given.include if not _leaves_any(glob, given.exclude, folders)]
    if not given.include and not _leaves_any("/**", given.exclude, folders):
        yield f"source {given.name}: no page can be kept: exclude matches everything in scope"
    elif useless and len(useless) == len(given.include):
        scope = f" below {' or '.join(folders)} (scope: prefix)" if given.scope == "prefix" else ""
        yield f"source {given.name}: no page can be kept: include, without exclude, matches no path{scope}"
    else:
        for glob in useless:
            yield f"source {given.name}: the include glob {glob} matches nothing that scope and exclude leave"


def _folders(given: WebSource) -> list[str]:
    """Return the paths that a page must begin with."""
    if given.scope != "prefix":
        return ["/"]
    return list(dict.fromkeys(folder_of(canonical_url(url) or url) for url in given.start_urls))


def _leaves_any(glob: str, exclude: Sequence[str], folders: Sequence[str]) -> bool:
    """Return whether a path may match the glob, lie in a folder and not be excluded."""
    rules = PathFilter([glob], exclude)
    return any(rules.is_included(f"https://x.example{path}") for path in _sample_paths(glob, folders))


def _sample_paths(glob: str, folders: Sequence[str]) -> Iterator[str]:
    """Yield paths that lie in a folder and may match a glob."""
    for folder in folders:
        names = folder.strip("/").split("/")
        samples = {"*": ("x9q", "y7k.html", *names), "**": ("", "x9q", "x9q/y7k", f"{folder}x9q", folder.strip("/"))}
        pieces = [samples.get(piece, (piece,)) for piece in re.split(r"(\*\*|\*)", glob)]
        filled = ("".join(parts) for parts in product(*pieces))
        for path in dict.fromkeys(islice(filled, _MOST_SAMPLES)):
            if path.startswith(folder):
                yield path
        if glob.removesuffix("/**").startswith(folder):  # /guide/** also means /guide itself
            yield glob.removesuffix("/**")
