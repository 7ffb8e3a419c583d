"""A home of two tenants, and what one of them may try to reach of the other by the command line.

Whatever is the victim's has words that stand nowhere else, so that one look at an output tells whether any of it is in
there. Everything a caller can name comes as a pair: what the victim has, and what nobody has; of equal length, so that
two answers that tell nothing are the same but for the name.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, select
from typer.main import get_command

from kb_pipeline.cli import main
from kb_pipeline.control.db.models import Base, RetiredKey
from kb_pipeline.control.flags import overrides
from kb_pipeline.control.kbs import versions
from kb_pipeline.control.runs.failures import list_failures
from kb_pipeline.control.tenancy import api_keys, plans, secrets, tenants, token_holder
from kb_pipeline.index.documents import list_documents
from kb_pipeline.model import KbKey
from kb_pipeline.operations import erase_document
from kb_pipeline.spec.plan_file import PlanSpec
from kb_pipeline.store.stage_tables import CHUNKS
from kb_pipeline_tests.databases import ON_POSTGRES, control_url
from kb_pipeline_tests.operations.home import MODEL, Home, quick_refreshes
from kb_pipeline_tests.site import Site, serve_site

VICTIM, OWN = KbKey("zebrafish", "quokka"), KbKey("honeybees", "fruits")
CANARIES = ("zebrafish", "quokka", "axolotl", "narwhal", "platypus", "pangolin", "ocelot", "okapi", "wombat", "dugong")
"""Words of the victim: tenant, KB, pages, texts, names and values of secrets, plan, actor, labels, files."""
Pair = tuple[str, str]


@dataclass(frozen=True)
class Ran:
    """What a caller sees of a command."""

    status: int
    text: str
    """stdout, then stderr, without space and frames: how lines are broken is no difference."""

    def without(self, names: list[str]) -> Ran:
        """Return the same result with a mark in the place of each name that the caller gave."""
        text = self.text
        for name in sorted((_squeezed(name) for name in names), key=len, reverse=True):
            text = text.replace(name, "<given>").replace(_squeezed(repr(name)[1:-1]), "<given>")
        return Ran(self.status, text)


def run_kb(*arguments: str) -> Ran:
    """Run the program `kb` with these arguments in this process."""
    out, err = _Stream(), _Stream()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setattr(sys, "argv", ["kb", *arguments])
        patched.setattr(sys, "stdin", io.StringIO("typed"))
        with pytest.raises(SystemExit) as ended:
            main()
    return Ran(int(ended.value.code or 0), out.squeezed() + err.squeezed())


class _Stream(io.TextIOWrapper):
    """As the interpreter's own: with bytes beneath, and no text that it cannot write."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)

    def squeezed(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return _squeezed(self.buffer.getvalue().decode(errors="replace"))


def _squeezed(text: str) -> str:
    return re.sub(r"[\s│╭╮╰╯─]", "", text)


class World:
    """The home, the keys of one tenant's programs, and the ids of the other's things."""

    def __init__(self, folder: Path, models_dir: Path, site: Site, theirs: Site) -> None:
        self.folder, self.home = folder, Home(folder / "home", models_dir)
        self._db = self.home.db
        self._fill_victim(theirs)
        self.home.apply(site, OWN)
        self.home.refresh(OWN)
        assert (self.home.last(VICTIM).version, self.home.last(OWN).version) == (3, 1)
        self.keys = {
            "all": api_keys.create_key(self._db, OWN.tenant, token_holder.SCOPES, "operator")[0],
            "read": api_keys.create_key(self._db, OWN.tenant, ["read"], "operator")[0],
        }
        self.document = f"{site.url}/apples"
        self.pairs = self._pairs(theirs)
        self.canaries = [*CANARIES, *self._victims_ids()]
        self._write_files(site)

    def _fill_victim(self, site: Site) -> None:
        """Three versions, and something of every kind of thing that a tenant can have."""
        plan = PlanSpec.model_validate({"plan": "pangolin", "limits": {"documents": 4242}})
        plans.apply_plans(self._db, [plan], "ocelot")
        tenants.create_tenant(self._db, VICTIM.tenant, "pangolin", "ocelot")
        self.home.apply(site, VICTIM)
        for edition in ("first", "second", "third"):
            site.put("/axolotl", f"Axolotl {edition}", f"The {edition} platypus report says where narwhals swim.")
            self.home.refresh(VICTIM)
            if edition == "first":
                self.time = datetime.now(UTC).isoformat()
        erase_document.erase_document(self.home.settings, self._db, VICTIM, f"{site.url}/dugong")
        secrets.set_secret(self.home.settings, self._db, VICTIM.tenant, "NARWHAL_TOKEN", "platypus-1", "ocelot")
        overrides.set_variant(self._db, "clean-focus", "recall", overrides.Scope(VICTIM.tenant, VICTIM.kb), "ocelot")
        self.key_id = api_keys.create_key(self._db, VICTIM.tenant, ["read"], "ocelot", label="okapi")[1].id
        with self._db.write_all() as session:
            receipt = {"key": "zebrafish/wombat", "status": "removed"}
            session.add(RetiredKey(key="zebrafish/wombat", receipt=receipt, retired_at=datetime.now(UTC)))

    def _victims_ids(self) -> list[str]:
        names = ("failure", "document id", "chunk id", "run", "API key")
        return [self.pairs[name][0] for name in names]

    def _pairs(self, site: Site) -> dict[str, Pair]:
        """Return the names of the victim's things and of things that do not exist, by kind."""
        (failure,) = [row.id for row in list_failures(self._db, VICTIM) if row.key.endswith("/narwhal")]
        documents = list(list_documents(self.home.reader(VICTIM)))
        (document_id,) = [row.document_id for row in documents if row.key.endswith("/axolotl")]
        chunks = self.home.store(VICTIM).tables.open(CHUNKS).read_columns(["chunk_id", "document_id"])
        chunk_id = dict(zip(chunks["document_id"], chunks["chunk_id"], strict=True))[document_id]
        run_id = next(versions.list_versions(self._db, VICTIM)).run_id
        return {
            "KB": (str(VICTIM), "nonesuch9/absent"),
            "KB's name": (VICTIM.kb, "absent"),
            "retired KB": ("zebrafish/wombat", "nonesuch9/absent"),
            "tenant": (VICTIM.tenant, "nonesuch9"),
            "document": (f"{site.url}/axolotl", f"{site.url}/nothing"),
            "erased document": (f"{site.url}/dugong", f"{site.url}/absent"),
            "document id": (document_id, "f" * len(document_id)),
            "chunk id": (chunk_id, "f" * len(chunk_id)),
            "title": ("Axolotl third", "Absence third"),
            "version": ("3", "9"),
            "time": (self.time, "2001" + self.time[4:]),
            "failure": (failure, "f" * len(failure)),
            "run": (run_id, "run-" + "0" * (len(run_id) - 4)),
            "API key": (self.key_id, "0" * len(self.key_id)),
            "secret": ("NARWHAL_TOKEN", "NOWHERE_TOKEN"),
            "plan": ("pangolin", "nosuchpl"),
            **self._path_pairs(),
        }

    def _path_pairs(self) -> dict[str, Pair]:
        data, theirs = self.folder / "home" / "data", self.folder / "theirs"
        tables = data / "zebrafish" / "quokka" / "lance"
        return {
            "spec of theirs": ("theirs-kb.yaml", "nobodys-kb.yaml"[1:]),
            "new spec of theirs": ("theirs-nw.yaml", "nobodys-nw.yaml"[1:]),
            "retired spec of theirs": ("theirs-rt.yaml", "nobodys-rt.yaml"[1:]),
            "invalid spec of theirs": ("theirs-iv.yaml", "nobodys-iv.yaml"[1:]),
            "spec of theirs with a secret": ("theirs-se.yaml", "nobodys-se.yaml"[1:]),
            "own spec with their secret": ("own-secret1.yaml", "own-secret2.yaml"),
            "own spec with their folder as model": ("own-model1.yaml", "own-model2.yaml"),
            "own spec with their queries": ("own-query1.yaml", "own-query2.yaml"),
            "link to their file": ("link1.yaml", "link2.yaml"),
            "their file": (f"{theirs}/dugong.yaml", f"{theirs}/absent.yaml"),
            "their file by a relative path": ("../theirs/dugong.yaml", "../theirs/absent.yaml"),
            "their file by way of home": ("~/dugong.yaml", "~/absent.yaml"),
            "key of secrets": (f"{self.folder}/home/secret-keys", f"{self.folder}/home/secret-nokey"),
            "control plane": (f"{self.folder}/home/control.db", f"{self.folder}/home/missing.db"),
            "their folder": (f"{data}/zebrafish/new", f"{data}/nonesuch9/new"),
            "their KB's folder": (f"{data}/zebrafish/quokka", f"{data}/zebrafish/absent"),
            "folder among their tables": (f"{tables}/dugong.lance", f"{data}/nonesuch9/absent/lance/dugong.lance"),
            "link to their folder": ("link3/new", "link4/new"),
            "their export": (f"{theirs}/wombat-export", f"{theirs}/absent-export"),
            "their backup": (f"{theirs}/wombat-backup", f"{theirs}/absent-backup"),
        }

    def _write_files(self, site: Site) -> None:
        work, theirs = self.folder / "work", self.folder / "theirs"
        work.mkdir()
        (theirs / "wombat-export").mkdir(parents=True)
        (theirs / "wombat-export" / "manifest.json").write_text('{"title": "Axolotl"}')
        (theirs / "wombat-backup").mkdir()
        (theirs / "dugong.yaml").write_text("- axolotl: platypus\n  narwhal: [unclosed\n")
        (theirs / "modules.json").write_text('[{"idx": 0, "path": "", "type": "narwhal.Model"}]')
        (theirs / "config.json").write_text('{"hidden_size": 384}')
        for name, target in self._links().items():
            (work / name).symlink_to(target)
        for name, spec in self._specs(site).items():
            (work / name).write_text(json.dumps(spec))

    def _links(self) -> dict[str, Path]:
        data, theirs = self.folder / "home" / "data", self.folder / "theirs"
        return {
            "link1.yaml": theirs / "dugong.yaml",
            "link2.yaml": theirs / "absent.yaml",
            "link3": data / "zebrafish",
            "link4": data / "nonesuch9",
        }

    def _specs(self, site: Site) -> dict[str, dict[str, Any]]:
        """KB files in the folder that the caller works in."""

        def spec(key: str, exclude: str = "/old", **sections: Any) -> dict[str, Any]:
            tenant, _, kb = key.partition("/")
            source = {"name": "site", "type": "web", "start_urls": [f"{site.url}/"], "exclude": [exclude]}
            return {"tenant": tenant, "kb": kb, "sources": [source], "embedding": {"model": MODEL}, **sections}

        found = {"own.yaml": spec(str(OWN))}
        for number, (tenant, kb, retired, secret) in enumerate(zip(*self._named_in_files(), strict=True)):
            of, own = ("theirs", "obodys")[number], number + 1
            found |= {
                f"{of}-kb.yaml": spec(f"{tenant}/{kb}"),
                f"{of}-nw.yaml": spec(f"{tenant}/new"),
                f"{of}-rt.yaml": spec(retired),
                f"{of}-iv.yaml": spec(f"{tenant}/{kb}", chunking={"max_tokens": 1}),
                f"{of}-se.yaml": spec(f"{tenant}/{kb}", f"/${{{secret}}}/**"),
                f"own-secret{own}.yaml": spec(str(OWN), f"/${{{secret}}}/**"),
                f"own-model{own}.yaml": spec(str(OWN), embedding={"model": self._model_names()[number]}),
                f"own-query{own}.yaml": spec(str(OWN), publish={"queries": f"link{own}.yaml"}),
            }
        return found

    def _named_in_files(self) -> list[Pair]:
        return [self.pairs[name] for name in ("tenant", "KB's name", "retired KB", "secret")]

    def _model_names(self) -> Pair:
        return str(self.folder / "theirs"), str(self.folder / "absent")

    def named_in_files(self, side: int) -> list[str]:
        """Return what the caller's files name: the victim's things (0), or things that do not exist (1)."""
        named = [pair[side] for pair in self._named_in_files()]
        return [*named, self._model_names()[side], f"link{side + 1}.yaml"]

    def of_victim(self) -> dict[str, Any]:
        """Every row and every file of the victim's, and what belongs to all."""
        rows = {}
        with self._db.read_all() as session:
            for model in (mapper.class_ for mapper in Base.registry.mappers):
                if "tenant" in inspect(model).columns:
                    found = session.scalars(select(model).where(model.tenant == VICTIM.tenant))
                elif model.__tablename__ in ("plans", "flags", "flag_changes", "retired_keys"):
                    found = session.scalars(select(model))
                else:
                    continue
                rows[model.__tablename__] = sorted(repr(_values(row)) for row in found)
        folders = (self.home.settings.data_dir / VICTIM.tenant, self.folder / "theirs")
        return rows | {str(folder): _fingerprints(folder) for folder in folders} | {"tenants": self._all_tenants()}

    def _all_tenants(self) -> list[str]:
        with self._db.read_all() as session:
            return sorted(f"{row.tenant}/{row.kb}" for row in session.scalars(select(_kbs())))


def _kbs() -> Any:
    return next(mapper.class_ for mapper in Base.registry.mappers if mapper.class_.__tablename__ == "kbs")


def _values(row: Any) -> dict[str, Any]:
    return {each.key: getattr(row, each.key) for each in inspect(type(row)).column_attrs}


def _fingerprints(folder: Path) -> dict[str, str]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() + str(path.stat().st_mtime_ns) for path in paths}


@contextmanager
def two_tenants(folder: Path, models_dir: Path) -> Iterator[World]:
    """Create a home with both tenants, in which `kb` runs from the folder `work`."""
    with pytest.MonkeyPatch.context() as patched, quick_refreshes(), serve_site() as own, serve_site() as theirs:
        settings = [name for name in os.environ if name.startswith("KB_") and not name.startswith("KB_TEST_")]
        for name in [*settings, "DAGSTER_HOME"]:
            patched.delenv(name, raising=False)
        if ON_POSTGRES:
            patched.setenv("KB_DATABASE_URL", control_url(folder / "home"))
        patched.setattr("typer.main.get_command", cache(get_command))  # half of what a command costs here
        patched.setenv("KB_HOME", str(folder / "home"))
        patched.setenv("HOME", str(folder / "theirs"))
        own.put("/", "Orchard", "The handbook of our orchard: how fruit is picked.", ("/apples",))
        own.put("/apples", "Apples", "Apples keep for months in a cool and dark cellar.")
        theirs.put("/", "Axolotl ledger", "The ledger of the wombat station.", ("/axolotl", "/dugong", "/narwhal"))
        theirs.put("/dugong", "Dugong", "Whatever was said of the dugong has to be forgotten.")
        theirs.status["/narwhal"] = 500
        world = World(folder, models_dir, own, theirs)
        patched.chdir(folder / "work")
        yield world
