"""Every command x everything of another tenant that it can be given: nothing is told of it, and nothing changes.

A command or parameter without a place in TAKES fails the first test.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from kb_pipeline.cli.app import app
from kb_pipeline.operations.authorization import SCOPES
from kb_pipeline_tests.cli.two_tenants import OWN, Ran, World, run_kb, two_tenants

pytestmark = pytest.mark.xdist_group("tenant_matrix")  # one worker builds what the module's tests share

KBS = ("KB", "tenant", "KB's name", "retired KB", "document id")
STATES = ("version", "time", "run")
DOCUMENTS = ("document", "erased document", "document id", "chunk id")
TENANTS = ("tenant", "KB", "retired KB")
FILES = ("their file", "their file by a relative path", "their file by way of home", "link to their file",
         "key of secrets", "control plane")  # fmt: skip
SPECS = ("spec of theirs", "new spec of theirs", "retired spec of theirs", "invalid spec of theirs",
         "spec of theirs with a secret", "own spec with their secret", "own spec with their folder as model",
         "own spec with their queries")  # fmt: skip
FOLDERS = ("their folder", "their KB's folder", "folder among their tables", "link to their folder", "their export",
           "their backup", "their file")  # fmt: skip

TAKES: dict[str, dict[str, tuple[str, ...]]] = {
    "apply": {"files": (*SPECS, *FILES)},
    "approve": {"kb": KBS, "version": ("version",)},
    "audit list": {"tenant": TENANTS},
    "audit verify": {},
    "backup": {"directory": FOLDERS},
    "build": {"kb": KBS},
    "cancel": {"kb": KBS},
    "completion": {},
    "delete": {"kb": KBS},
    "demo": {"url": ("document",)},
    "diff": {"kb": KBS, "v1": STATES, "v2": STATES},
    "doctor": {},
    "documents": {"kb": KBS, "as_of": STATES},
    "erase": {"kb": KBS, "key": DOCUMENTS},
    "explain": {"kb": KBS, "url": DOCUMENTS},
    "export": {"kb": KBS, "directory": FOLDERS, "as_of": STATES},
    "extract": {"files": FILES, "url": ("document",)},
    "failures": {"kb": KBS},
    "flag clear": {"tenant": TENANTS, "kb": KBS},
    "flag list": {"kb": KBS},
    "flag rollout": {},
    "flag set": {"tenant": TENANTS, "kb": KBS},
    "init": {"target": ("document", *FOLDERS), "output": FILES, "tenant": TENANTS, "kb": ("KB's name",)},
    "key create": {"tenant": TENANTS},
    "key list": {"tenant": TENANTS},
    "key revoke": {"tenant": TENANTS, "key_id": ("API key",)},
    "list": {"tenant": TENANTS},
    "logs": {"kb": KBS, "run": ("run",)},
    "operator-key create": {},
    "operator-key list": {},
    "operator-key revoke": {"key_id": ("API key",)},
    "page": {"kb": KBS, "key": DOCUMENTS, "as_of": STATES},
    "plan apply": {"files": FILES},
    "plan list": {},
    "plan show": {"plan": ("plan",)},
    "quota": {"tenant": TENANTS},
    "replay": {"kb": KBS, "key": DOCUMENTS, "as_of": STATES},
    "restore": {"directory": FOLDERS, "into": FOLDERS},
    "retry": {"kb": KBS, "names": ("failure", "run", "document", "document id")},
    "rollback": {"kb": KBS, "version": ("version",)},
    "schema": {},
    "ask": {"kb": KBS, "question": ("title", "document", "chunk id"), "as_of": STATES},
    "search": {"kb": KBS, "query": ("title", "document", "chunk id"), "as_of": STATES},
    "secret delete": {"tenant": TENANTS, "name": ("secret",)},
    "secret key": {},
    "secret list": {"tenant": TENANTS},
    "secret rotate": {},
    "secret set": {"tenant": TENANTS},
    "serve": {},
    "mcp": {},
    "show": {"kb": KBS},
    "status": {"kb": KBS},
    "tenant create": {"tenant": TENANTS, "plan": ("plan",)},
    "tenant delete": {"tenant": TENANTS},
    "tenant list": {},
    "tenant plan": {"tenant": TENANTS, "name": ("plan",)},
    "tenant resume": {"tenant": TENANTS},
    "tenant show": {"tenant": TENANTS},
    "tenant suspend": {"tenant": TENANTS},
    "ui": {},
    "up": {},
    "usage": {"tenant": TENANTS, "kb": ("KB's name", "KB")},
    "versions": {"kb": KBS},
}
"""Every command: its parameters that name something, and the kinds of things that they are given."""
NAME_NOTHING = {
    "as_json", "as_csv", "reuse_key", "force", "queue", "k", "mode", "language", "provenance", "raw", "feed", "lift",
    "yes", "port", "grace", "now", "reason", "scope", "label", "days", "since", "until", "by", "variant", "shares",
    "left_out", "source", "context", "dry_run", "limit", "columns", "state", "watch", "follow", "shell",
    "host", "workers", "ui_port", "filters", "only_kbs", "requests_per_minute", "proxy_headers", "forwarded_allow_ips",
}  # fmt: skip
PUBLIC = {"completion", "schema"}
"""What says nothing of an installation, and to everybody the same."""
AGENTS = {"mcp"}
"""What answers for as long as it is asked, with tools that have a matrix of their own: service/mcp."""
NAMES_ANEW = {"flag set": "name", "flag clear": "name", "flag rollout": "name", "secret set": "name"}
"""Flags are the installation's, listed in the documentation; a new secret is called what its owner likes."""
ANSWERED = {("search", "query"), ("ask", "question"), ("usage", "kb"), ("explain", "url")}
"""What is looked for among one's own things is not found, which is no error."""
ANY_TEXT = {"query", "question", "kb", "directory"}
"""What may be called anything."""
SWITCHES = {"apply": ("--reuse-key",), "build": ("--force", "--queue"), "diff": ("--feed",),
            "documents": ("--left-out",), "erase": ("--lift", "--yes", "--dry-run"), "page": ("--raw",),
            "search": ("--provenance", "--context=2")}  # fmt: skip


def commands() -> dict[str, Any]:
    """Every command of the program by its words."""
    found, left = {}, [("", get_command(app))]
    while left:
        words, command = left.pop()
        if hasattr(command, "commands"):
            left += [(f"{words} {name}".strip(), each) for name, each in command.commands.items()]
        else:
            found[words] = command
    return found


COMMANDS = commands()
FOR_KEYS = sorted(set(COMMANDS) & set(SCOPES))
OF_A_KB = [words for words in FOR_KEYS if any(p.name == "kb" and p.param_type_name == "argument" for p in
                                              COMMANDS[words].params)]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, migrated_sqlite: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("two")
    (folder / "home").mkdir()
    shutil.copyfile(migrated_sqlite, folder / "home" / "control.db")
    handlers = list(logging.getLogger("kb_pipeline").handlers)
    with two_tenants(folder, models_dir) as built:
        before = built.of_victim()
        yield built
        assert built.of_victim() == before  # whatever all these tests have tried
    logging.getLogger("kb_pipeline").handlers[:] = handlers


def line(world: World, words: str, given: dict[str, str]) -> list[str]:
    """Return a command line that names the caller's own things where no other is given."""
    own = {
        "kb": str(OWN), "key": world.document, "version": "1", "v1": "1", "v2": "1", "query": "apples",
        "question": "apples",
        "directory": "out", "files": "own.yaml", "tenant": OWN.tenant, "plan": "default", "key_id": "0" * 12,
        "name": "clean-focus", "url": world.document, "variant": "recall", "shares": "recall=1", "scope": "read",
    }  # fmt: skip
    arguments = words.split()
    for parameter in COMMANDS[words].params:
        value = given.get(parameter.name)
        if parameter.param_type_name == "option":
            if value is None and parameter.required:
                value = own[parameter.name]
            arguments += [parameter.opts[0], value] if value is not None else []
        elif value is not None or parameter.required:
            arguments.append(own[parameter.name] if value is None else value)
    return arguments


def cells(words: str, key: str) -> list[dict[str, str]]:
    """Return the attempts on a command: each parameter with each kind, and all together; one kind for a lesser key."""
    takes = {name: kinds if key == "all" else kinds[:1] for name, kinds in TAKES[words].items()}
    tried = [{name: kind} for name, kinds in takes.items() for kind in kinds]
    return [*tried, {name: kinds[0] for name, kinds in takes.items()}]


def asked(world: World, key: str, words: str, cell: dict[str, str], side: int) -> Ran:
    """Return what the caller sees, without the names that it gave itself."""
    given = {name: world.pairs[kind][side] for name, kind in cell.items()}
    names = [*given.values(), *world.named_in_files(side), world.keys[key].split("_")[2]]
    arguments = line(world, words, given)
    switches = SWITCHES.get(words, ()) if key == "all" else ()
    ways = [arguments, *([*arguments, switch] for switch in switches)]
    seen = [run_kb("--key", world.keys[key], *way).without(names) for way in ways]
    return Ran(seen[0].status, "|".join(f"{ran.status}{ran.text}" for ran in seen))


def assert_tells_nothing(world: World, ran: Ran, what: object) -> None:
    told = [word for word in world.canaries if word.lower() in ran.text.lower()]
    assert told == [], f"{what}: {ran.text}"


def test_every_command_and_every_parameter_has_its_place() -> None:
    assert set(COMMANDS) == set(TAKES)
    for words, command in COMMANDS.items():
        names = {parameter.name for parameter in command.params} - {"help", NAMES_ANEW.get(words)}
        assert names - NAME_NOTHING == set(TAKES[words]), words
    assert set(SCOPES) - {"build --force", "embed"} <= set(COMMANDS), "but for an option and what only programs do"


@pytest.mark.parametrize("words", sorted(TAKES.keys() - PUBLIC - AGENTS))
def test_what_another_tenant_has_is_answered_as_what_nobody_has(world: World, words: str) -> None:
    for key in world.keys:
        for cell in cells(words, key):
            theirs, nobodys = (asked(world, key, words, cell, side) for side in (0, 1))
            assert_tells_nothing(world, theirs, cell)
            if list(cell) not in (["query"], ["question"]):  # other words are answered with other pages of one's own
                assert theirs == nobodys, cell
            if not {(words, name) for name in cell} & ANSWERED:
                assert theirs.status in (1, 2), cell


@pytest.mark.parametrize("words", sorted(set(TAKES) - set(SCOPES) - PUBLIC - AGENTS))
def test_what_is_the_operators_takes_no_key_whatever_it_is_given(world: World, words: str) -> None:
    for key in world.keys.values():
        ran = run_kb("--key", key, *line(world, words, {}))
        assert ran.status == 1
        assert "isforwhoeverrunsthisinstallation,notfortokensofatenant" in ran.text


def test_one_s_own_things_are_shown_which_is_what_the_others_are_compared_with(world: World) -> None:
    for words in set(FOR_KEYS) - {"apply", "approve", "build", "erase", "retry", "rollback", "key revoke", "secret set",
                                       "secret delete"}:  # fmt: skip
        ran = run_kb("--key", world.keys["all"], *line(world, words, {}))
        assert ran.status == 0, (words, ran.text)
        assert_tells_nothing(world, ran, words)
        assert (world.folder / "work" / "out").exists() == (words == "export")
        shutil.rmtree(world.folder / "work" / "out", ignore_errors=True)


TRICKS = (
    "honeybees/../zebrafish/quokka", "honeybees/fruits/../../zebrafish/quokka", "../zebrafish/quokka",
    "/zebrafish/quokka", "zebrafish//quokka", "zebrafish/quokka/", "./zebrafish/quokka", "zebrafish\\quokka",
    "honeybees/..%2fzebrafish%2fquokka", "%7aebrafish/quokka", "zebrafish%2fquokka", "ZEBRAFISH/quokka",
    "z\u0435brafish/quokka", "zebrafish\uff0fquokka", "\uff5aebrafish/quokka", "zebrafish/quokka\0",
    "honeybees/fruits\0/../..", "zebrafish/quokka\n", " zebrafish/quokka", "zebrafish/quo\u200bkka",
    "zebrafish/quokka' OR '1'='1", "zebrafish/%", "*/*", "/", "", "honeybees/.vectors", "honeybees/..", "zebrafish",
    "\udcff/quokka", "z/" + "q" * 9999,
)  # fmt: skip


@pytest.mark.parametrize("words", OF_A_KB)
def test_a_name_that_is_a_trick_is_no_kb(world: World, words: str) -> None:
    for trick in TRICKS:
        ran = run_kb("--key", world.keys["all"], *line(world, words, {"kb": trick}))
        assert ran.status == 2, (trick, ran.text)
        assert_tells_nothing(world, ran.without([trick]), trick)


HOSTILE_TEXTS = (
    "' OR '1'='1",
    "%",
    "../../../zebrafish/quokka/lance",
    "\0",
    "\udcff",
    "",
    "*",
    "x" * 100_000,
    "~nobody/x",
)
HOSTILE_STATES = (
    "1" * 5000,
    "-1",
    "0",
    "1e3",
    "\u0663",
    "0001-01-01T00:00+14:00",
    "9999-12-31T23:59-14:00",
    "\udcff",
    "",
)


@pytest.mark.parametrize("words", FOR_KEYS)
def test_what_is_no_id_of_one_s_own_is_refused_in_words(world: World, words: str) -> None:
    for name in set(TAKES[words]) - ({"kb"} if words in OF_A_KB else set()):
        for value in HOSTILE_STATES if TAKES[words][name][0] == "version" else HOSTILE_TEXTS:
            ran = run_kb("--key", world.keys["all"], *line(world, words, {name: value}))
            assert_tells_nothing(world, ran.without([value]), (name, value))
            assert ran.status in (1, 2) or name in ANY_TEXT or value == "", (name, value)
