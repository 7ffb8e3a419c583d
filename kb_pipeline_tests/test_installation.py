"""The Python API: what it returns, who may do what with it, and that it can live as long as its process."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import kb_pipeline
from kb_pipeline import administration, installation
from kb_pipeline.control.tenancy.token_holder import SCOPES as ALL_SCOPES
from kb_pipeline.embed import model_cache, open_embedder
from kb_pipeline.errors import (
    KbError,
    KeyRefused,
    NotAllowed,
    TenantInactive,
    UnknownJob,
    UnknownKb,
    UnknownTenant,
    UnknownVersion,
    UsageError,
)
from kb_pipeline.installation import Installation, Kb
from kb_pipeline.model import KbKey
from kb_pipeline.operations.authorization import SCOPES
from kb_pipeline.operations.observer import NobodyCounts
from kb_pipeline.settings import Settings, as_environment, load_settings
from kb_pipeline_tests.operations.home import Home, quick_refreshes
from kb_pipeline_tests.published import Published
from kb_pipeline_tests.site import Site, plant_orchard, serve_site

DOCS, WIKI = KbKey("acme", "docs"), KbKey("acme", "wiki")
THEIRS = KbKey("globex", "docs")
E5 = "multilingual-e5-small"


@pytest.fixture(scope="module")
def orchard() -> Iterator[Site]:
    with serve_site() as site:
        plant_orchard(site)
        yield site


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    with quick_refreshes():
        yield


@pytest.fixture(scope="module")
def two_models(
    tmp_path_factory: pytest.TempPathFactory, models_dir: Path, migrated_sqlite: Path, orchard: Site, quick: None
) -> Home:
    """A home with two published KBs, each of another model."""
    folder = tmp_path_factory.mktemp("api") / "home"
    folder.mkdir()
    (folder / "control.db").write_bytes(migrated_sqlite.read_bytes())
    home = Home(folder, models_dir)
    home.apply(orchard, DOCS)
    home.apply(orchard, WIKI, embedding={"model": E5})
    assert [home.refresh(key).status for key in (DOCS, WIKI)] == ["ready", "ready"]
    return home


@pytest.fixture
def api(two_models: Home) -> Iterator[Installation]:
    with kb_pipeline.open(settings=two_models.settings) as opened:
        yield opened


@pytest.fixture
def opened_models(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each model has been loaded."""
    loaded: Counter[str] = Counter()

    def counting(model: str, *arguments: Any) -> Any:
        loaded[model] += 1
        return open_embedder(model, *arguments)

    monkeypatch.setattr("kb_pipeline.embed.model_cache.open_embedder", counting)
    return loaded


def test_a_home_is_searched_in_six_lines(two_models: Home) -> None:
    home = kb_pipeline.open(two_models.settings.home)
    kb = home.kb("acme/docs")
    found = kb.search("where do apples keep for months", k=3)
    assert found[0].title == "Apples"
    assert (found.version, found.mode, str(found.kb)) == (kb.status().live_version, "hybrid", "acme/docs")
    assert [each.key for each in home.kbs()] == [DOCS, WIKI]
    home.close()
    home.close()  # closing twice is fine


def test_what_is_read_of_a_version(api: Installation) -> None:
    kb = api.kb(DOCS)
    documents = {document.key: document for document in kb.documents()}
    key = next(key for key in documents if key.endswith("/apples"))
    assert kb.document(key).title == documents[key].title == "Apples"
    assert b"<title>" in kb.raw_bytes(key)
    assert kb.versions()[0].live
    assert kb.replay(key).matches
    assert kb.search("apples", as_of=1).version == kb.search("apples", as_of="1").version == 1
    assert kb.search("apples", provenance=True).provenance is not None
    with pytest.raises(UnknownVersion):
        kb.search("apples", as_of=99)
    with pytest.raises(UsageError):
        kb.search("apples", k=0)


def test_what_is_not_there_is_said_when_it_is_named(api: Installation) -> None:
    with pytest.raises(UnknownKb):
        api.kb("acme/none")
    with pytest.raises(UnknownTenant):
        api.quotas("nobody")
    with pytest.raises(UsageError):
        api.quotas()


def test_two_kbs_of_two_models_in_turn_open_each_model_once(api: Installation, opened_models: Counter[str]) -> None:
    for _ in range(5):
        for key in (DOCS, WIKI):
            assert api.kb(key).search("where do apples keep for months", mode="vector")[0].title == "Apples"
    assert set(opened_models.values()) == {1}
    assert len(opened_models) == 2


def test_more_models_than_fit_are_opened_again(models_dir: Path, opened_models: Counter[str]) -> None:
    cache = model_cache.ModelCache(models_dir, max_models=1)
    first = cache.open("all-MiniLM-L6-v2")
    assert cache.open("all-MiniLM-L6-v2") is first
    cache.open(E5)
    assert cache.open("all-MiniLM-L6-v2") is not first
    assert opened_models == {"all-MiniLM-L6-v2": 2, E5: 1}


def test_threads_that_ask_for_a_model_at_once_wait_for_one_load(models_dir: Path, opened_models: Counter[str]) -> None:
    cache = model_cache.ModelCache(models_dir)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: cache.open("all-MiniLM-L6-v2"), range(8)))
    assert len({id(model) for model in found}) == 1
    assert opened_models == {"all-MiniLM-L6-v2": 1}


def test_sixteen_threads_search_two_kbs_while_both_are_published_again(
    two_models: Home, orchard: Site, opened_models: Counter[str]
) -> None:
    """No search fails, none mixes versions, and what is published is seen by the next search."""
    live = {key: two_models.last(key).version or 0 for key in (DOCS, WIKI)}
    done = threading.Event()
    with kb_pipeline.open(settings=two_models.settings) as api, ThreadPoolExecutor(16) as threads:

        def search(number: int) -> list[int]:
            kb = api.kb((DOCS, WIKI)[number % 2])
            seen = []
            while not done.is_set():
                found = kb.search("which quinces are ripe", k=3, mode=("hybrid", "vector", "keyword")[number % 3])
                assert found, "every version has documents that answer"
                seen.append(found.version)
                pinned = kb.search("apples", as_of=live[kb.key])
                assert pinned.version == live[kb.key]
            return seen

        searches = [threads.submit(search, number) for number in range(16)]
        try:
            for edition in range(2):
                orchard.put("/quinces", f"Quinces {edition}", f"Quinces of edition {edition} ripen in late October.")
                orchard.put("/", "Orchard", f"Edition {edition} of the handbook.", ("/apples", "/quinces"))
                for key in (DOCS, WIKI):
                    assert two_models.refresh(key).status == "ready"
                    assert api.kb(key).search("quinces").version == live[key] + edition + 1
        finally:
            done.set()
        seen = [each.result() for each in searches]
    for number, versions in enumerate(seen):
        assert versions == sorted(versions), "no search goes back to an older version"
        first = live[(DOCS, WIKI)[number % 2]]
        assert set(versions) <= set(range(first, first + 3))
    assert opened_models
    assert set(opened_models.values()) == {1}


def test_the_environment_is_read_when_it_is_opened_and_never_after(
    two_models: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kb_pipeline.open(two_models.settings.home) as api:
        expected = [hit.key for hit in api.kb(DOCS).search("apples")]
        for name in ("KB_HOME", "KB_DATABASE_URL", "KB_STORAGE_URI", "KB_LOG_FORMAT"):
            monkeypatch.setenv(name, "postgresql://nowhere.example/?%%%")
        assert [hit.key for hit in api.kb(DOCS).search("apples")] == expected
        assert api.kb(DOCS).status().live_version


def test_a_child_process_reads_the_settings_that_its_parent_was_given(
    two_models: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = replace(
        two_models.settings, contact="mailto:a@example.com", allowed_networks=("10.0.0.0/8",), proxy="http://p:1",
        file_roots=(tmp_path,),
        file_variables={"TOKEN": "t"}, secret_keys=("k1", "k2"), actor="somebody", browser="/bin/x",
        database_url_file=None,
    )  # fmt: skip
    monkeypatch.setenv("KB_CONTACT", "other")
    for name, value in as_environment(given).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == given
    (tmp_path / "url").write_text(given.database_url)
    in_file = replace(given, database_url_file=tmp_path / "url")
    for name, value in as_environment(in_file).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == in_file
    assert given.database_url not in as_environment(in_file).values()


def test_a_refresh_through_dagster_tells_how_far_it_is(published: Published) -> None:
    published.site.put("/quinces", "Quinces", "Quinces ripen late and keep until spring.")
    published.site.put("/", "Orchard", "The handbook, with quinces now.", ("/apples", "/quinces"))
    with kb_pipeline.open() as api:
        kb, stages = api.kb(DOCS), []
        result = kb.refresh(lambda refresh: stages.append(refresh.stage))
        assert (result.status, result.version, result.succeeded) == ("ready", 2, True)
        assert stages
        assert kb.search("when do quinces ripen")[0].title == "Quinces"
        assert kb.refresh().status == "unchanged"


# Who may do what


class Nobody:
    """Two tenants' KBs of which nothing was built, and a caller of one of them."""

    def __init__(self, folder: Path, models_dir: Path, site: Site) -> None:
        self.home = Home(folder, models_dir)
        self.settings: Settings = replace(self.home.settings, file_variables={"PATH_OF_SITE": "x"})
        self.operator = kb_pipeline.open(settings=self.settings)
        for key in (DOCS, THEIRS):
            source = {"name": "site", "type": "web", "start_urls": [site.url], "exclude": ["/${PATH_OF_SITE}/**"]}
            self.operator.apply_text(json.dumps({"tenant": key.tenant, "kb": key.kb, "sources": [source]}))
            JOBS[key] = self.operator.kb(key).request_refresh().id

    def acting_as(self, *scopes: str, tenant: str = "acme") -> Installation:
        """With the variable of the KB files gone, so that no refresh can start."""
        key, _ = self.operator.keys.create(tenant, scopes)
        return kb_pipeline.open(settings=replace(self.settings, file_variables={}), api_key=key)


@pytest.fixture
def nobody(home: Path, tmp_path: Path, models_dir: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Nobody:
    monkeypatch.chdir(tmp_path)
    return Nobody(home, models_dir, site)


JOBS: dict[KbKey, str] = {}
"""Of each KB a job, by the newest home of `nobody`."""


def job_of(key: KbKey) -> str:
    return JOBS.get(key, "0" * 32)


CALLS: dict[str, Callable[[Installation, KbKey, Path], Any]] = {
    "Installation.kbs": lambda home, key, at: home.kbs(),
    "Installation.overview": lambda home, key, at: home.overview(key.tenant),
    "Installation.apply": lambda home, key, at: home.apply(_spec_in(at, key)),
    "Installation.apply_text": lambda home, key, at: home.apply_text(_spec_in(at, key).read_text()),
    "Installation.delete_kb": lambda home, key, at: home.delete_kb(key),
    "Installation.deletion_plan": lambda home, key, at: home.deletion_plan(key),
    "Installation.jobs": lambda home, key, at: home.jobs(key.tenant),
    "Installation.job": lambda home, key, at: home.job(job_of(key)),
    "Installation.job_events": lambda home, key, at: home.job_events(job_of(key)),
    "Installation.job_log": lambda home, key, at: home.job_log(job_of(key)),
    "Installation.newest_events": lambda home, key, at: home.newest_events(key.tenant, [job_of(key)]),
    "Installation.cancel_job": lambda home, key, at: home.cancel_job(job_of(key)),
    "Installation.quotas": lambda home, key, at: home.quotas(key.tenant),
    "Installation.usage": lambda home, key, at: list(home.usage(key.tenant)),
    "Installation.extract": lambda home, key, at: list(home.extract(at)),
    "Installation.embedding_models": lambda home, key, at: home.embedding_models(),
    "Installation.embed": lambda home, key, at: home.embed([""]),
    "Installation.vectorize": lambda home, key, at: home.vectorize(" "),
    "Installation.backup": lambda home, key, at: home.backup(at / "backup"),
    "Installation.metrics": lambda home, key, at: home.metrics(),
    "Installation.observe": lambda home, key, at: home.observe(NobodyCounts()),
    "Installation.warm_up": lambda home, key, at: home.warm_up(),
    "Installation.dependencies": lambda home, key, at: home.dependencies(),
    "Kb.file": lambda home, key, at: home.kb(key).file(),
    "Kb.status": lambda home, key, at: home.kb(key).status(),
    "Kb.search": lambda home, key, at: home.kb(key).search("apples"),
    "Kb.answer": lambda home, key, at: home.kb(key).answer("apples?"),
    "Kb.answer_events": lambda home, key, at: list(home.kb(key).answer_events("apples?")),
    "Kb.similar": lambda home, key, at: home.kb(key).similar("0" * 32),
    "Kb.vectorize": lambda home, key, at: home.kb(key).vectorize(" "),
    "Kb.searched_data": lambda home, key, at: home.kb(key).searched_data(),
    "Kb.documents": lambda home, key, at: list(home.kb(key).documents()),
    "Kb.account": lambda home, key, at: home.kb(key).account(),
    "Kb.left_out": lambda home, key, at: list(home.kb(key).left_out()),
    "Kb.document": lambda home, key, at: home.kb(key).document("x"),
    "Kb.find_document": lambda home, key, at: home.kb(key).find_document("x"),
    "Kb.raw_bytes": lambda home, key, at: home.kb(key).raw_bytes("x"),
    "Kb.document_page": lambda home, key, at: home.kb(key).document_page(),
    "Kb.document_by_id": lambda home, key, at: home.kb(key).document_by_id("0" * 32),
    "Kb.raw_bytes_by_id": lambda home, key, at: home.kb(key).raw_bytes_by_id("0" * 32),
    "Kb.documents_by_time": lambda home, key, at: home.kb(key).documents_by_time(),
    "Kb.chunks": lambda home, key, at: home.kb(key).chunks("0" * 32),
    "Kb.versions": lambda home, key, at: home.kb(key).versions(),
    "Kb.diff": lambda home, key, at: home.kb(key).diff(1, 2),
    "Kb.change_feed": lambda home, key, at: list(home.kb(key).change_feed(1, 2)),
    "Kb.document_changes": lambda home, key, at: home.kb(key).document_changes(1, 2),
    "Kb.export": lambda home, key, at: home.kb(key).export(at / "export"),
    "Kb.replay": lambda home, key, at: home.kb(key).replay("x"),
    "Kb.explain": lambda home, key, at: home.kb(key).explain("http://site.example/x"),
    "Kb.failures": lambda home, key, at: home.kb(key).failures(),
    "Kb.retry": lambda home, key, at: home.kb(key).retry("none-such"),
    "Kb.refresh": lambda home, key, at: home.kb(key).refresh(),
    "Kb.request_refresh": lambda home, key, at: home.kb(key).request_refresh(),
    "Kb.start_job": lambda home, key, at: home.kb(key).start_job(),
    "Kb.newest_job": lambda home, key, at: home.kb(key).newest_job(),
    "Kb.logs": lambda home, key, at: list(home.kb(key).logs()),
    "Kb.cancel": lambda home, key, at: home.kb(key).cancel(),
    "Kb.rollback": lambda home, key, at: home.kb(key).rollback(1),
    "Kb.approve": lambda home, key, at: home.kb(key).approve(1),
    "Kb.erase": lambda home, key, at: home.kb(key).erase("x"),
    "Kb.erasure_plan": lambda home, key, at: home.kb(key).erasure_plan("x"),
    "Kb.lift_erasure": lambda home, key, at: home.kb(key).lift_erasure("x"),
    "Drafts.create": lambda home, key, at: home.drafts.create({}, key.tenant),
    "Drafts.get": lambda home, key, at: home.drafts.get("0" * 32, key.tenant),
    "Drafts.list": lambda home, key, at: home.drafts.list(key.tenant),
    "Drafts.patch": lambda home, key, at: home.drafts.patch("0" * 32, {}, key.tenant),
    "Drafts.put_section": lambda home, key, at: home.drafts.put_section("0" * 32, "chunking", {}, key.tenant),
    "Drafts.put_source": lambda home, key, at: home.drafts.put_source("0" * 32, {"name": "x"}, key.tenant),
    "Drafts.remove_source": lambda home, key, at: home.drafts.remove_source("0" * 32, "x", key.tenant),
    "Drafts.delete": lambda home, key, at: home.drafts.delete("0" * 32, key.tenant),
    "Drafts.validate": lambda home, key, at: home.drafts.validate("0" * 32, key.tenant),
    "Drafts.preview": lambda home, key, at: home.drafts.preview("0" * 32, 3, key.tenant),
    "Drafts.estimate": lambda home, key, at: home.drafts.estimate("0" * 32, key.tenant),
    "Drafts.finalize": lambda home, key, at: home.drafts.finalize("0" * 32, key.tenant),
    "Tenants.create": lambda home, key, at: home.tenants.create("newcomer"),
    "Tenants.list": lambda home, key, at: home.tenants.list(),
    "Tenants.get": lambda home, key, at: home.tenants.get(key.tenant),
    "Tenants.set_plan": lambda home, key, at: home.tenants.set_plan(key.tenant, "default"),
    "Tenants.suspend": lambda home, key, at: home.tenants.suspend(key.tenant),
    "Tenants.resume": lambda home, key, at: home.tenants.resume(key.tenant),
    "Tenants.schedule_deletion": lambda home, key, at: home.tenants.schedule_deletion(key.tenant),
    "Tenants.delete": lambda home, key, at: home.tenants.delete(key.tenant),
    "Plans.apply": lambda home, key, at: home.plans.apply(at / "plan.yaml"),
    "Plans.apply_text": lambda home, key, at: home.plans.apply_text("plan: small"),
    "Plans.list": lambda home, key, at: home.plans.list(),
    "Plans.get": lambda home, key, at: home.plans.get("default"),
    "ApiKeys.create": lambda home, key, at: home.keys.create(key.tenant, ["admin"]),
    "ApiKeys.list": lambda home, key, at: home.keys.list(key.tenant),
    "ApiKeys.revoke": lambda home, key, at: home.keys.revoke(key.tenant, "0" * 12),
    "OperatorKeys.create": lambda home, key, at: home.operator_keys.create(),
    "OperatorKeys.list": lambda home, key, at: home.operator_keys.list(),
    "OperatorKeys.revoke": lambda home, key, at: home.operator_keys.revoke("0" * 12),
    "Secrets.set": lambda home, key, at: home.secrets.set(key.tenant, "NAME", "value"),
    "Secrets.list": lambda home, key, at: home.secrets.list(key.tenant),
    "Secrets.delete": lambda home, key, at: home.secrets.delete(key.tenant, "NAME"),
    "Secrets.rotate": lambda home, key, at: home.secrets.rotate(),
    "Secrets.new_key": lambda home, key, at: home.secrets.new_key(),
    "Flags.list": lambda home, key, at: home.flags.list(),
    "Flags.of_kb": lambda home, key, at: home.flags.of_kb(key),
    "Flags.set": lambda home, key, at: home.flags.set("clean-focus", "recall", kb=str(key)),
    "Flags.roll_out": lambda home, key, at: home.flags.roll_out("clean-focus", [("recall", 50)]),
    "Flags.clear": lambda home, key, at: home.flags.clear("clean-focus", kb=str(key)),
    "AuditLog.list": lambda home, key, at: list(home.audit.list(key.tenant)),
    "AuditLog.verify": lambda home, key, at: home.audit.verify(),
}
"""Every method that does something, called for a KB or its tenant."""
UNGUARDED = {"Installation.kb", "Installation.acting_as", "Installation.count_request", "Installation.close"}
"""What gives nothing of a KB by itself: whoever names a KB can see it, a new key is looked at anew."""
CLASSES = (
    Installation, Kb, administration.Drafts, administration.Tenants, administration.Plans, administration.ApiKeys,
    administration.OperatorKeys, administration.Secrets,
    administration.Flags, administration.AuditLog,
)  # fmt: skip


def _spec_in(folder: Path, key: KbKey) -> Path:
    source = {"name": "site", "type": "web", "start_urls": ["http://site.example/"]}
    path = folder / "kb.yaml"
    path.write_text(json.dumps({"tenant": key.tenant, "kb": key.kb, "sources": [source]}))
    return path


def methods() -> dict[str, Callable[..., Any]]:
    return {
        f"{cls.__name__}.{name}": method
        for cls in CLASSES
        for name, method in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
    }


def operation_of(name: str) -> str:
    return str(vars(methods()[name])["operation"])


def test_every_method_says_which_operation_it_is() -> None:
    """A method without one would be open to every key: it fails here, and so does one that the walk lacks."""
    assert {name for name, method in methods().items() if "operation" not in vars(method)} == UNGUARDED
    assert set(CALLS) == set(methods()) - UNGUARDED
    assert set(SCOPES) - {"build --force"} <= {operation_of(name) for name in CALLS}


@pytest.mark.parametrize(
    "scopes", [s for n in range(1, len(ALL_SCOPES) + 1) for s in combinations(ALL_SCOPES, n)], ids="+".join
)
def test_a_key_may_do_what_its_scopes_allow_and_nothing_else(
    nobody: Nobody, tmp_path: Path, scopes: tuple[str, ...]
) -> None:
    with nobody.acting_as(*scopes) as api:
        for name, call in CALLS.items():
            needed = SCOPES.get(operation_of(name))
            refusal = _refusal(call, api, DOCS, tmp_path)
            if needed is None:
                assert "is for whoever runs this installation" in refusal, name
            elif needed not in scopes:
                assert f"this takes the scope {needed!r}" in refusal, name
            else:
                assert refusal == "", name
        forced = _refusal(lambda home, key, at: home.kb(key).refresh(force=True), api, DOCS, tmp_path)
        assert (forced == "") is ({"build", "manage"} <= set(scopes)), "forcing takes both"


def _refusal(call: Callable[..., Any], api: Installation, key: KbKey, folder: Path) -> str:
    """Why the caller may not; empty where it may, whatever else is in the way."""
    try:
        call(api, key, folder)
    except NotAllowed as refused:
        return str(refused)
    except (KbError, OSError):
        pass
    return ""


OF_THE_CALLER = {
    "Installation.kbs", "Installation.metrics", "Installation.embedding_models", "Installation.embed",
    "Installation.vectorize", "Flags.list",
}  # fmt: skip
"""What names no tenant and no KB."""


def test_another_tenants_things_do_not_exist(nobody: Nobody, tmp_path: Path) -> None:
    """For a key that may do everything a tenant may, of each method; what is theirs stays as it is."""
    before = nobody.operator.kb(THEIRS).status(), list(nobody.operator.audit.list("globex"))
    with nobody.acting_as(*ALL_SCOPES) as api:
        assert [kb.key for kb in api.kbs()] == [DOCS]
        for name, call in CALLS.items():
            if name in OF_THE_CALLER:
                continue
            with pytest.raises((UnknownKb, UnknownTenant, UnknownJob, NotAllowed)) as refused:
                call(api, THEIRS, tmp_path)
            nowhere = KbKey("nobody", "docs")
            with pytest.raises(type(refused.value)) as unknown:
                call(api, nowhere, tmp_path)
            told = [
                str(each.value).replace(str(key.tenant), "<tenant>").replace(job_of(key), "<job>")
                for each, key in ((refused, THEIRS), (unknown, nowhere))
            ]
            assert told[0] == told[1], name
        assert list(api.audit.list()) == list(nobody.operator.audit.list("acme"))
    after = nobody.operator.kb(THEIRS).status(), list(nobody.operator.audit.list("globex"))
    assert after == before


def test_callers_share_what_is_open_and_none_sees_anothers(two_models: Home, opened_models: Counter[str]) -> None:
    with kb_pipeline.open(settings=two_models.settings) as operator:
        operator.tenants.create("globex")
        ours, _ = operator.keys.create("acme", ["read"])
        theirs, row = operator.keys.create("globex", ["read"])
        for _ in range(2):
            with operator.acting_as(ours) as acting:
                assert acting.kb(DOCS).search("apples")
        with pytest.raises(UnknownKb):
            operator.acting_as(theirs).kb(DOCS)
        assert operator.kb(DOCS).search("apples")
        assert opened_models == {"all-MiniLM-L6-v2": 1}
        operator.keys.revoke("globex", row.id)
        with pytest.raises(KeyRefused):
            operator.acting_as(theirs)


def test_a_suspended_tenants_key_is_refused_and_its_kbs_are_not_searched(nobody: Nobody) -> None:
    key, _ = nobody.operator.keys.create("globex", ["read"])
    nobody.operator.tenants.suspend("globex", "unpaid")
    with pytest.raises(TenantInactive, match="unpaid"):
        kb_pipeline.open(settings=nobody.settings, api_key=key)


def test_a_restore_is_the_operators(nobody: Nobody, tmp_path: Path) -> None:
    key, _ = nobody.operator.keys.create("acme", ALL_SCOPES)
    with pytest.raises(NotAllowed, match="kb restore is for whoever runs this installation"):
        installation.restore(tmp_path, settings=nobody.settings, api_key=key)


def test_opening_an_installation_needs_no_environment(two_models: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("KB_") and not name.startswith("KB_TEST"):
            monkeypatch.delenv(name)
    with kb_pipeline.open(settings=two_models.settings) as api:
        assert api.settings.home == two_models.settings.home


def test_what_the_documentation_shows_runs(
    two_models: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one go, as a reader would type it, on a home of the test's own."""
    shutil.copytree(two_models.settings.home, tmp_path / ".kb", symlinks=True)
    monkeypatch.chdir(tmp_path)
    for name in ("KB_HOME", "KB_DATABASE_URL", "KB_STORAGE_URI"):
        monkeypatch.delenv(name, raising=False)
    text = (Path(__file__).parents[1] / "docs/python.md").read_text("utf-8").replace("acme/handbook", "acme/docs")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert "Apples" in capsys.readouterr().out
    assert names["applied"].action == "created"
    assert names["found"].version == names["status"].live_version
    assert (tmp_path / "exported/manifest.json").is_file()
