"""A home that an earlier release made answers as it did, goes on, and has nothing embedded again."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import kb_pipeline
from kb_pipeline.cli.app import app
from kb_pipeline.control.kbs import versions
from kb_pipeline.control.kbs.erasures import find_receipt
from kb_pipeline.embed.openvino import has_native_bf16
from kb_pipeline.installation import Installation
from kb_pipeline.model import KbKey
from kb_pipeline_tests.databases import ON_POSTGRES
from kb_pipeline_tests.operations.earlier_home import (
    DOCS,
    ERASED,
    GUIDE,
    ORIGIN,
    TOKEN,
    OrchardSite,
    environment,
    orchard_site,
)
from kb_pipeline_tests.operations.home import Home, quick_refreshes

pytestmark = [
    pytest.mark.skipif(ON_POSTGRES, reason="the recorded control plane is one of SQLite"),
    pytest.mark.xdist_group("earlier_homes"),  # one worker unpacks and opens the models
]

ARCHIVE = Path(__file__).parents[1] / "data/home-2026-11.tar.xz"
DOCS_KEY, GUIDE_KEY = KbKey.parse(DOCS), KbKey.parse(GUIDE)
CHANGES_WITH_TIME = ("quota", "flag")  # a day's quota is renewed; a release may add flags


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "home"


@pytest.fixture(scope="module")
def recorded(unpacked: Path) -> dict[str, Any]:
    """The answers of the release that made the home, and what is to know of it."""
    read: dict[str, Any] = json.loads((unpacked / "recorded.json").read_text())
    return read


@pytest.fixture(scope="module")
def site() -> Iterator[OrchardSite]:
    with orchard_site() as served, quick_refreshes():
        yield served


@pytest.fixture
def earlier(unpacked: Path, tmp_path: Path, models_dir: Path, site: OrchardSite) -> Home:
    """A copy of the home, and the site as the live version of acme/docs knows it."""
    site.plant()
    site.change_apples()
    del site.bodies[ERASED]
    shutil.copytree(unpacked, tmp_path / "home")
    home = Home(tmp_path / "home", models_dir)
    home.settings = replace(home.settings, proxy=site.proxy, actor="tester")
    return home


@pytest.fixture
def api(earlier: Home) -> Iterator[Installation]:
    with kb_pipeline.open(settings=earlier.settings) as opened:
        yield opened


def segments(home: Home) -> set[Path]:
    return set(home.settings.data_dir.rglob("raw/*.parquet"))


def has(answer: Any, recorded: Any) -> bool:
    """Whether an answer says everything that was recorded; its objects may have more fields."""
    if isinstance(recorded, dict):
        return isinstance(answer, dict) and all(
            key in answer and has(answer[key], value) for key, value in recorded.items()
        )
    if isinstance(recorded, list):
        return len(answer) == len(recorded) and all(map(has, answer, recorded))
    if isinstance(recorded, float):
        return bool(answer == pytest.approx(recorded, abs=0.01))  # processors round differently
    return bool(answer == recorded)


def lines(text: str) -> Any:
    """The JSON values of an output, or the text that it is instead."""
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return text


def test_searches_of_every_version_find_what_was_recorded(api: Installation, recorded: dict[str, Any]) -> None:
    same_vectors = has_native_bf16()  # as on the machine that recorded; elsewhere close scores may change places
    searches = [answer for answer in recorded["answers"] if answer["arguments"][0] == "search"]
    assert len(searches) > 30
    for answer in searches:
        _, kb, query, *options = answer["arguments"]
        named = dict(zip(options[::2], options[1::2], strict=False))
        if "--provenance" in options:
            found = api.kb(kb).search(query, 2, language="en", provenance=True)
        else:
            found = api.kb(kb).search(query, mode=named.get("--mode", "hybrid"), as_of=named.get("--as-of"))
        answered, expected = json.loads(json.dumps(found.as_json())), json.loads(answer["out"])
        if not same_vectors:
            answered["hits"], expected["hits"] = answered["hits"][:1], expected["hits"][:1]
        assert has(answered, expected), answer["arguments"]


def test_every_other_command_that_reads_says_what_was_recorded(earlier: Home, recorded: dict[str, Any]) -> None:
    others = [a for a in recorded["answers"] if a["arguments"][0] not in ("search", *CHANGES_WITH_TIME)]
    assert len(others) > 20
    for answer in others:
        done = CliRunner().invoke(app, answer["arguments"], env=environment(earlier.settings.home, ""))
        assert has(lines(done.stdout), lines(answer["out"])), answer["arguments"]
        told = re.sub(r"did you mean .*?\? ", "", f"kb: {done.exception}\n")  # what is near is told since then
        assert told == answer["err"] if answer["status"] else done.exit_code == 0, answer["arguments"]


def test_the_api_key_is_still_one(earlier: Home, recorded: dict[str, Any]) -> None:
    with kb_pipeline.open(settings=earlier.settings, api_key=recorded["api_key"]) as opened:
        assert [str(kb.key) for kb in opened.kbs()] == [DOCS, GUIDE]


def test_manifests_of_the_earlier_format_are_read(earlier: Home) -> None:
    manifests = [versions.manifest_as_of(earlier.db, DOCS_KEY, str(number)) for number in (1, 2, 3, 4)]
    assert [manifest.format for manifest in manifests] == [1, 1, 1, 1]
    assert [manifest.counts.documents for manifest in manifests] == [6, 6, 7, 3]
    assert {manifest.model.name for manifest in manifests} == {"all-MiniLM-L6-v2"}


def test_a_refresh_after_a_rollback_embeds_nothing(earlier: Home, site: OrchardSite) -> None:
    site.plant()
    refreshed = earlier.refresh(GUIDE_KEY)
    assert refreshed.ended == ("unchanged", 1)
    assert refreshed.worked == (4, 4, 0)  # cleaned and chunked anew by the rules of this release


def test_an_approved_version_is_unchanged_at_the_next_refresh(
    earlier: Home, site: OrchardSite, api: Installation
) -> None:
    site.lose_most()  # as when that version was made
    api.kb(DOCS).approve(4)
    assert earlier.keys(DOCS_KEY) == ["/", "/apples", f"/members?token={TOKEN}"]
    before = segments(earlier)
    refreshed = earlier.refresh(DOCS_KEY)
    assert (refreshed.ended, refreshed.worked) == (
        ("unchanged", 4),
        (3, 3, 0),
    )  # cleaned and chunked anew by the rules of this release
    assert segments(earlier) == before


def test_pages_that_an_earlier_release_would_never_have_asked_for_again_come_back(
    earlier: Home, site: OrchardSite, api: Installation
) -> None:
    api.kb(DOCS).approve(4)
    refreshed = earlier.refresh(DOCS_KEY)
    assert refreshed.stages["fetch"]["came_back"] == {"not_found": 3}
    assert earlier.keys(DOCS_KEY) == [
        "/", "/apples", f"/members?token={TOKEN}", "/pears", "/plums", "/quinces",
    ]  # fmt: skip


def test_only_a_changed_page_is_embedded(earlier: Home, site: OrchardSite, api: Installation) -> None:
    site.plant()
    site.put("/quinces", "Quinces", "Quinces are boiled down to a stiff paste and cut into cubes.")
    refreshed = earlier.refresh(GUIDE_KEY)
    assert (refreshed.ended, refreshed.embedded) == (("ready", 3), 1)
    assert api.kb(GUIDE).search("stiff paste", 1)[0].key == f"{ORIGIN}/quinces"
    assert len(list(api.kb(GUIDE).documents())) == 4


def test_an_earlier_version_becomes_live_again(api: Installation) -> None:
    assert api.kb(DOCS).search("apples in a cellar", 1)[0].text.endswith("little oxygen.")
    api.kb(DOCS).rollback(1)
    assert api.kb(DOCS).search("apples in a cellar", 1)[0].text.endswith("wooden shelves.")


def test_a_document_is_erased_from_every_version(api: Installation) -> None:
    api.kb(DOCS).erase(f"{ORIGIN}/plums")
    for version in (1, 2, 3):
        assert f"{ORIGIN}/plums" not in {hit.key for hit in api.kb(DOCS).search("dark jam", 10, as_of=version)}


def test_an_erasure_of_then_can_be_lifted(earlier: Home, api: Installation) -> None:
    receipt = api.kb(DOCS).lift_erasure(ERASED)
    assert receipt.as_json()["versions"] == [1, 2]
    assert find_receipt(earlier.db, DOCS_KEY, ERASED) == (receipt, True)
