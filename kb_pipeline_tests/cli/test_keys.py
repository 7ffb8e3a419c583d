"""What an API key may do by the command line: its tenant's KBs, within its scopes, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kb_pipeline.cli.app import app
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Usage
from kb_pipeline.control.kbs import catalog
from kb_pipeline.control.tenancy import audit, plans, tenants
from kb_pipeline.control.tenancy.api_keys import create_key, revoke_key
from kb_pipeline.control.tenancy.secrets import set_secret
from kb_pipeline.control.tenancy.token_holder import SCOPES as ALL_SCOPES
from kb_pipeline.control.tenancy.token_holder import Scope
from kb_pipeline.errors import (
    InvalidSpec,
    KeyRefused,
    NotAllowed,
    TenantInactive,
    UnknownKb,
    UnknownModel,
    UnknownTenant,
)
from kb_pipeline.model import KbKey
from kb_pipeline.operations.authorization import OF_WHOLE_TENANT, SCOPES
from kb_pipeline.settings import load_settings
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline.spec.plan_file import PlanSpec

ARGUMENTS = {
    "search": ["apples"], "ask": ["apples"], "page": ["k"], "replay": ["k"], "erase": ["k", "--yes"],
    "diff": ["1", "2"], "rollback": ["1"], "approve": ["1"], "export": ["out"], "explain": ["http://site.example/"],
    "key create": ["--scope", "read"], "key revoke": ["0" * 12], "secret set": ["NAME"], "secret delete": ["NAME"],
}  # fmt: skip
NO_COMMANDS = {"build --force"}
"""An option."""
OF_A_TENANT = {"list", "usage", "flag list", *OF_WHOLE_TENANT}
OF_A_KB = sorted(set(SCOPES) - {"apply"} - NO_COMMANDS - OF_A_TENANT)


def yaml_of(kb: str, exclude: str = "/old/**") -> str:
    tenant, _, name = kb.partition("/")
    source = {"name": "site", "type": "web", "start_urls": ["http://site.example/"], "exclude": [exclude]}
    return json.dumps({"tenant": tenant, "kb": name, "sources": [source]})


@pytest.fixture
def db(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Of a home with one KB of each of two tenants."""
    monkeypatch.chdir(tmp_path)
    database = Database(load_settings().database_url)
    for kb in ("acme/docs", "globex/docs"):
        catalog.apply_spec(database, parse_spec(yaml_of(kb), "test"), yaml_of(kb), "tester")
    return database


def key_of(db: Database, *scopes: Scope, tenant: str = "acme") -> str:
    return create_key(db, tenant, scopes or ALL_SCOPES, "tester")[0]


def kb(*arguments: str) -> str:
    """Return what a command prints; raise what it raises."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> Exception:
    unknown = (UnknownKb, UnknownTenant, UnknownModel)
    with pytest.raises((*unknown, NotAllowed, KeyRefused, TenantInactive, InvalidSpec)) as caught:
        kb(*arguments)
    return caught.value


def test_another_tenants_kb_is_answered_as_one_that_does_not_exist(db: Database) -> None:
    key = key_of(db)
    for command in OF_A_KB:
        more = ARGUMENTS.get(command, [])
        told = [refused("--key", key, command, name, *more) for name in ("globex/docs", "globex/none", "acme/none")]
        assert [type(error) for error in told] == [UnknownKb] * 3, command
        assert len({str(error).partition(": ")[2] for error in told}) == 1
    assert len(list(catalog.list_kbs(db))) == 2


def test_every_command_takes_its_scope(db: Database) -> None:
    lacking: dict[Scope, str] = {
        lacked: key_of(db, *(scope for scope in ALL_SCOPES if scope != lacked)) for lacked in ALL_SCOPES
    }
    for command, scope in SCOPES.items():
        what = [] if command == "flag list" else ["acme" if command in OF_A_TENANT else "acme/docs"]
        told = refused("--key", lacking[scope], *command.split(), *what, *ARGUMENTS.get(command, []))
        assert f"this takes the scope {scope!r}" in str(told)


def test_what_is_the_operators_takes_no_key(db: Database) -> None:
    key = key_of(db)
    for line in (
        "tenant list", "tenant suspend globex", "audit verify", "plan list", "backup x", "operator-key create",
        "operator-key list", "operator-key revoke x", "secret key", "secret rotate", "extract x.html", "demo", "ui",
        "up", "serve", "doctor",
    ):  # fmt: skip
        told = str(refused("--key", key, *line.split()))
        assert f"kb {line.split()[0]}" in told
        assert "is for whoever runs this installation" in told


def test_forcing_a_version_through_is_more_than_building(db: Database) -> None:
    assert "scope 'manage'" in str(refused("--key", key_of(db, "build"), "build", "acme/docs", "--force"))


def test_a_key_reads_its_own_and_may_come_from_a_variable_or_a_file(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(db, "read")
    assert json.loads(kb("--key", key, "status", "acme/docs", "--json"))["status"] == "new"
    (tmp_path / "key").write_text(f"{key}\n")
    for name, value in (("KB_KEY", key), ("KB_KEY_FILE", str(tmp_path / "key"))):
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            assert json.loads(kb("status", "acme/docs", "--json"))["kb"] == "acme/docs"
            assert isinstance(refused("status", "globex/docs"), UnknownKb)
            assert isinstance(refused("tenant", "list"), NotAllowed)
    assert json.loads(kb("status", "globex/docs", "--json"))["kb"] == "globex/docs"  # the operator again


def test_a_key_applies_files_of_its_tenant_under_its_own_name(db: Database, tmp_path: Path) -> None:
    key = key_of(db, "manage")
    (tmp_path / "new.yaml").write_text(yaml_of("acme/new"))
    assert json.loads(kb("--key", key, "apply", "new.yaml", "--json")) == [{"kb": "acme/new", "action": "created"}]
    *_, last = audit.list_entries(db, "acme")
    assert (last.actor, last.action, last.subject) == (f"key {key.split('_')[2]}", "kb.apply", "acme/new")


def test_a_file_of_another_tenant_tells_nothing_of_its_kbs_and_secrets(db: Database, tmp_path: Path) -> None:
    key, told = key_of(db), set()
    set_secret(load_settings(), db, "globex", "TOKEN", "hunter2", "tester")
    (tmp_path / "own.yaml").write_text(yaml_of("acme/new"))
    for name, exclude in (("docs", "/x"), ("none", "/x"), ("docs", "/${TOKEN}/**"), ("docs", "/${NO_SUCH}/**")):
        (tmp_path / "kb.yaml").write_text(yaml_of(f"globex/{name}", exclude))
        told.add(str(refused("--key", key, "apply", "own.yaml", "kb.yaml")))
    assert told == {f"API key {key.split('_')[2]}: it is for KBs of tenant acme"}
    assert len(list(catalog.list_kbs(db))) == 2


def test_a_key_sees_quota_usage_and_changes_of_its_tenant_only(db: Database) -> None:
    read, manage = key_of(db, "read"), key_of(db, "manage")
    day = datetime.now(UTC).date().isoformat()
    with db.write_all() as session:
        for tenant, pages in (("acme", 3), ("globex", 4)):
            row = Usage(tenant=tenant, kb="docs", unit="fetch/1", run_id="r", day=day, operation="fetch", pages=pages)
            session.add(row)
    assert {row["limit"] for row in json.loads(kb("--key", read, "quota", "acme", "--json"))} >= {"documents"}
    for given in ([], ["acme"], [""]):
        assert json.loads(kb("--key", read, "usage", *given, "--json"))["pages"] == 3
        entries = [json.loads(line) for line in kb("--key", manage, "audit", "list", *given, "--json").splitlines()]
        assert [entry["subject"] for entry in entries[:2]] == ["acme", "acme/docs"]
    for key, *command in ((read, "quota"), (read, "usage"), (manage, "audit", "list")):
        told = [refused("--key", key, *command, tenant) for tenant in ("globex", "nobody", "../acme")]
        assert [type(error) for error in told] == [UnknownTenant] * 3
    assert len(kb("usage", "--json").splitlines()) == 2  # the operator's


def test_a_key_names_files_beneath_the_folder_it_is_used_in(db: Database, tmp_path: Path, home: Path) -> None:
    key = key_of(db)
    (tmp_path / "beneath").mkdir()
    (tmp_path / "beneath" / "kb.yaml").write_text(yaml_of("acme/new"))
    kb("--key", key, "apply", str(tmp_path / "beneath" / "kb.yaml"))
    (tmp_path / "link.yaml").symlink_to("/etc/hostname")
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    outside = (
        "/etc/hostname",
        "../kb.yaml",
        "link.yaml",
        "circle.yaml",
        "beneath/../../x",
        "~/kb.yaml",
        str(home / "x"),
    )
    for path in outside:
        for command in (["apply"], ["export", "acme/docs"]):
            told = str(refused("--key", key, *command, path))
            assert f"{path}: with a key, files lie beneath the folder that kb is run in, and outside of" in told
    assert "/etc/hostname: not a valid KB file" in str(refused("apply", "/etc/hostname"))  # the operator's


def test_a_file_that_is_handed_over_on_stdin_may_be_read(db: Database, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kb_pipeline", "--key", key_of(db), "apply", "/dev/stdin"]
    done = subprocess.run(command, cwd=tmp_path, input=yaml_of("acme/new"), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "acme/new: created\n")


def test_a_key_opens_models_that_are_bundled_or_that_the_tenants_plan_lists(db: Database, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "modules.json").write_text('[{"idx": 0, "path": "", "type": "os.system"}]')
    (model / "config.json").write_text('{"hidden_size": 384}')
    spec = json.loads(yaml_of("acme/docs")) | {"embedding": {"model": str(model)}}
    (tmp_path / "kb.yaml").write_text(json.dumps(spec))
    (tmp_path / "none.yaml").write_text(json.dumps(spec | {"embedding": {"model": "/no/such"}}))
    key = key_of(db)
    told = [str(refused("--key", key, "apply", name)) for name in ("kb.yaml", "none.yaml")]
    assert told[0].replace(str(model), "/no/such") == told[1]
    limits = {"models": [str(model), "all-MiniLM-L6-v2"]}
    plans.apply_plans(db, [PlanSpec.model_validate({"plan": "default", "limits": limits})], "tester")
    kb("--key", key, "apply", "kb.yaml")


def test_what_is_no_key_never_is_the_operator(db: Database) -> None:
    for given in ("", "x", "kb_acme_000000000000_" + "0" * 49):
        error = refused("--key", given, "status", "acme/docs")
        assert isinstance(error, KeyRefused)
        assert len(given) < 2 or given not in str(error)


def test_revoked_keys_and_suspended_tenants_are_refused_at_once(db: Database) -> None:
    key = key_of(db, "read")
    kb("--key", key, "status", "acme/docs")
    tenants.set_status(db, "acme", "suspended", "unpaid", "tester")
    assert "suspended: unpaid" in str(refused("--key", key, "status", "acme/docs"))
    tenants.set_status(db, "acme", "active", "", "tester")
    revoke_key(db, "acme", key.split("_")[2], "tester")
    assert "was revoked" in str(refused("--key", key, "status", "acme/docs"))


def test_the_operator_creates_lists_and_revokes_keys(db: Database) -> None:
    made = json.loads(kb("key", "create", "acme", "--scope", "read", "--label", "ci", "--days", "7", "--json"))
    assert made["key"].startswith(f"kb_acme_{made['id']}_")
    assert json.loads(kb("--key", made["key"], "versions", "acme/docs", "--json")) == []
    (listed,) = json.loads(kb("key", "list", "acme", "--json"))
    assert (listed["id"], listed["label"], listed["scopes"]) == (made["id"], "ci", ["read"])
    assert listed["last_used_at"]
    assert made["id"] in kb("key", "list", "acme")
    assert json.loads(kb("key", "revoke", "acme", made["id"], "--json"))["revoked_at"]
    printed = kb("key", "create", "acme", "--scope", "read", "--scope", "build").splitlines()
    assert printed[0].startswith("kb_acme_")


def test_a_key_for_some_kbs_sees_no_other_kb_of_its_tenant(db: Database, tmp_path: Path) -> None:
    for name in ("faq", "hr"):
        catalog.apply_spec(db, parse_spec(yaml_of(f"acme/{name}"), "test"), yaml_of(f"acme/{name}"), "tester")
    made = json.loads(
        kb("key", "create", "acme", "--scope", "read", "--scope", "build", "--scope", "manage", "--kb", "docs",
           "--kb", "faq", "--json")
    )  # fmt: skip
    assert made["kbs"] == ["docs", "faq"]
    assert "docs faq" in kb("key", "list", "acme")
    key = made["key"]
    assert [row["kb"] for row in json.loads(kb("--key", key, "list", "--json"))] == ["acme/docs", "acme/faq"]
    for command in OF_A_KB:
        more = ARGUMENTS.get(command, [])
        told = [refused("--key", key, command, name, *more) for name in ("acme/hr", "acme/none", "globex/docs")]
        assert [type(error) for error in told] == [UnknownKb] * 3, command
        assert len({str(error).partition(": ")[2] for error in told}) == 1
    for name in ("hr", "none"):
        (tmp_path / "kb.yaml").write_text(yaml_of(f"acme/{name}", "/x"))
        assert "it is for the KBs docs, faq only" in str(refused("--key", key, "apply", "kb.yaml"))
    (tmp_path / "kb.yaml").write_text(yaml_of("acme/docs", "/x"))
    kb("--key", key, "apply", "kb.yaml")


def test_a_key_for_some_kbs_is_told_nothing_of_the_whole_tenant(db: Database) -> None:
    day = datetime.now(UTC).date().isoformat()
    with db.write_all() as session:
        for name, pages in (("docs", 3), ("hr", 4)):
            session.add(
                Usage(tenant="acme", kb=name, unit="fetch/1", run_id="r", day=day, operation="fetch", pages=pages)
            )
    key, _ = create_key(db, "acme", ["read", "build", "manage"], "tester", kbs=["docs"])
    for given in ([], ["--kb", "hr"], ["--by", "operation"]):
        rows = [json.loads(line) for line in kb("--key", key, "usage", *given, "--json").splitlines()]
        assert [row["pages"] for row in rows] == ([] if "hr" in given else [3])
    for command in (["quota", "acme"], ["audit", "list"]):
        assert "this concerns the whole tenant" in str(refused("--key", key, *command))


def test_a_tenants_administrator_has_its_keys_and_secrets_and_nobody_elses(db: Database) -> None:
    key = key_of(db, "read", "admin")
    made = json.loads(kb("--key", key, "key", "create", "acme", "--scope", "read", "--json"))
    assert {row["id"] for row in json.loads(kb("--key", key, "key", "list", "acme", "--json"))} >= {made["id"]}
    kb("--key", key, "key", "revoke", "acme", made["id"])
    assert isinstance(refused("--key", made["key"], "list"), KeyRefused)
    done = CliRunner().invoke(app, ["--key", key, "secret", "set", "acme", "TOKEN"], input="value")
    assert done.exit_code == 0
    assert [row["name"] for row in json.loads(kb("--key", key, "secret", "list", "acme", "--json"))] == ["TOKEN"]
    kb("--key", key, "secret", "delete", "acme", "TOKEN")
    assert json.loads(kb("--key", key, "tenant", "show", "acme", "--json"))["tenant"] == "acme"
    for command in (
        "key create {} --scope read", "key list {}", "key revoke {} 000000000000", "secret set {} NAME",
        "secret list {}", "secret delete {} NAME", "tenant show {}",
    ):  # fmt: skip
        told = [refused("--key", key, *command.format(tenant).split()) for tenant in ("globex", "nobody")]
        assert [type(error) for error in told] == [UnknownTenant] * 2, command


def test_a_tenants_administrator_gives_no_more_than_it_has(db: Database) -> None:
    key = key_of(db, "read", "admin")
    told = str(refused("--key", key, "key", "create", "acme", "--scope", "read", "--scope", "manage"))
    assert "it cannot give manage, which it does not have" in told
    assert len(json.loads(kb("key", "list", "acme", "--json"))) == 1


def test_flags_are_shown_to_a_tenant_as_far_as_they_concern_it(db: Database) -> None:
    kb("flag", "set", "clean-focus", "recall", "--tenant", "globex")
    kb("flag", "set", "clean-focus", "recall", "--tenant", "acme")
    key = key_of(db, "admin")
    (shown,) = (row for row in json.loads(kb("--key", key, "flag", "list", "--json")) if row["flag"] == "clean-focus")
    assert shown["overrides"] == {"acme": "recall"}
    assert isinstance(refused("--key", key, "flag", "list", "--kb", "globex/docs"), UnknownKb)


def test_an_operator_key_does_what_the_operator_may_but_reads_no_files_elsewhere(db: Database, tmp_path: Path) -> None:
    made = json.loads(kb("operator-key", "create", "--label", "console", "--days", "7", "--json"))
    assert made["key"].startswith(f"kbop_{made['id']}_")
    key = made["key"]
    kb("--key", key, "tenant", "create", "initech")
    *_, last = audit.list_entries(db, "initech")
    assert (last.actor, last.action) == (f"operator key {made['id']}", "tenant.create")
    assert [row["kb"] for row in json.loads(kb("--key", key, "list", "--json"))] == ["acme/docs", "globex/docs"]
    kb("--key", key, "key", "create", "globex", "--scope", "admin")
    assert "files lie beneath" in str(refused("--key", key, "apply", "/etc/hostname"))
    assert made["id"] in kb("operator-key", "list")
    assert kb("operator-key", "create").startswith("kbop_")
    kb("operator-key", "revoke", made["id"])
    assert isinstance(refused("--key", key, "tenant", "list"), KeyRefused)


def test_a_file_that_an_operator_key_applies_is_the_operators(db: Database, tmp_path: Path) -> None:
    key = json.loads(kb("operator-key", "create", "--json"))["key"]
    source = {"name": "files", "type": "files", "root": "/srv", "paths": ["**"]}
    (tmp_path / "kb.yaml").write_text(json.dumps({"tenant": "acme", "kb": "files", "sources": [source]}))
    kb("--key", key, "apply", "kb.yaml")
    assert catalog.is_operators(db, KbKey("acme", "files"))


def test_a_secret_is_set_from_stdin_and_used_by_the_tenants_file(db: Database, tmp_path: Path) -> None:
    for tenant, value in (("acme", "mine\n"), ("globex", "theirs")):
        done = CliRunner().invoke(app, ["secret", "set", tenant, "TOKEN"], input=value)
        assert (done.exit_code, value.strip() in done.output) == (0, False)
    assert [row["name"] for row in json.loads(kb("secret", "list", "acme", "--json"))] == ["TOKEN"]
    (tmp_path / "kb.yaml").write_text(yaml_of("acme/docs", "/${TOKEN}/**"))
    kb("--key", key_of(db, "manage"), "apply", "kb.yaml")
    assert catalog.get_kb(db, KbKey("acme", "docs")).read_spec(load_settings()).sources[0].exclude == ["/mine/**"]
    assert json.loads(kb("secret", "rotate", "--json")) == {"rotated": 2, "lost": []}
    kb("secret", "delete", "acme", "TOKEN")
    with pytest.raises(InvalidSpec, match="set TOKEN with: kb secret set acme TOKEN"):
        _ = catalog.get_kb(db, KbKey("acme", "docs")).read_spec(load_settings())
    assert len(kb("secret", "key").strip()) == 44


def test_a_file_reaches_none_of_the_operators_variables(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KB_CONTACT", "ops@example.com")
    monkeypatch.setenv("OPENED", "open")
    monkeypatch.setenv("KB_FILE_VARIABLES", "OPENED")
    for name in ("KB_CONTACT", "PATH", "KB_HOME"):
        (tmp_path / "kb.yaml").write_text(yaml_of("acme/docs", f"/${{{name}}}/**"))
        assert "no such variable" in str(refused("apply", "kb.yaml"))
    (tmp_path / "kb.yaml").write_text(yaml_of("acme/docs", "/${OPENED}/**"))
    kb("apply", "kb.yaml")


def test_a_key_names_folders_only_beneath_those_that_are_opened(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tmp_path / "opened"
    (opened / "docs").mkdir(parents=True)
    (opened / "out").symlink_to("/etc")
    key = key_of(db)

    def write(root: str) -> None:
        source = {"name": "files", "type": "files", "root": root, "paths": ["**"]}
        (tmp_path / "kb.yaml").write_text(json.dumps({"tenant": "acme", "kb": "files", "sources": [source]}))

    write(str(opened / "docs"))
    assert "beneath those that the operator opens" in str(refused("--key", key, "apply", "kb.yaml"))
    monkeypatch.setenv("KB_FILE_ROOTS", str(opened))
    for root in ("/etc", str(opened / "out"), str(opened / "out/ssl"), str(tmp_path)):
        write(root)
        told = refused("--key", key, "apply", "kb.yaml")
        assert f"sources.0.root: got '{root}'; a tenant may name folders only beneath" in str(told)
    assert [str(record.key) for record in catalog.list_kbs(db)] == ["acme/docs", "globex/docs"]
    write(str(opened / "docs"))
    kb("--key", key, "apply", "kb.yaml")
    files = KbKey("acme", "files")
    assert not catalog.is_operators(db, files)
    kb("apply", "kb.yaml")
    assert catalog.is_operators(db, files), "the operator takes it over"
    kb("--key", key, "apply", "kb.yaml")
    assert catalog.is_operators(db, files), "the same file again changes nothing"
    write("/srv")
    kb("apply", "kb.yaml")
    assert "a tenant may name folders only beneath" in str(refused("--key", key, "apply", "kb.yaml"))
