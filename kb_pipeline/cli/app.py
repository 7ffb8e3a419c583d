"""The commands of `kb`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kb_pipeline.cli.audit import audit_app
from kb_pipeline.cli.flags import flag_app
from kb_pipeline.cli.keys import key_app
from kb_pipeline.cli.plans import plan_app
from kb_pipeline.cli.quota import quota, usage
from kb_pipeline.cli.secrets import secret_app
from kb_pipeline.cli.session import (
    JsonOption,
    KbArgument,
    KeyArgument,
    Session,
    YesOption,
    confirm,
    enter,
    own_path,
    own_paths,
    require_scope,
    text,
)
from kb_pipeline.cli.tenants import tenant_app

if TYPE_CHECKING:
    from kb_pipeline.control.kbs.versions import VersionRecord
    from kb_pipeline.index.documents import HitProvenance
    from kb_pipeline.index.search import Hit
    from kb_pipeline.model import KbKey
    from kb_pipeline.store.manifest import Manifest

app = typer.Typer(
    name="kb",
    help="Build and search knowledge bases: kb apply FILE, kb build TENANT/KB, kb search TENANT/KB 'question'.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(tenant_app, name="tenant")
app.add_typer(plan_app, name="plan")
app.add_typer(audit_app, name="audit")
app.add_typer(flag_app, name="flag")
app.add_typer(key_app, name="key")
app.add_typer(secret_app, name="secret")

app.command()(quota)
app.command()(usage)

VersionArgument = Annotated[int, typer.Argument(metavar="V", help="A version's number.", min=1)]
AsOf = Annotated[str | None, typer.Option("--as-of", metavar="VERSION|TIME", help="Read an earlier version.")]


@app.callback()
def _enter(
    ctx: typer.Context,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="Run as this API key; KB_KEY and the file KB_KEY_FILE are not seen by others.",
        ),
    ] = None,
) -> None:
    enter(ctx.invoked_subcommand, key)


def _key(text: str) -> KbKey:
    from kb_pipeline.model import KbKey

    return KbKey.parse(text)


@app.command()
def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="KB files.", callback=own_paths)],
    reuse_key: Annotated[bool, typer.Option("--reuse-key", help="Take the key of a deleted tenant or KB.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Create or update KBs from their files; nothing is applied unless every file is valid."""
    from kb_pipeline.cli.apply import apply_files
    from kb_pipeline.cli.output import out, print_json

    session = Session()
    applied = apply_files(session.settings, session.db, files, reuse=reuse_key)
    if as_json:
        print_json(applied)
        return
    for item in applied:
        out.print(f"{item['kb']}: {item['action']}")


@app.command()
def build(
    kb: KbArgument,
    force: Annotated[bool, typer.Option(help="Publish even what a check would hold for approval.")] = False,
    queue: Annotated[
        bool, typer.Option("--queue", help="Only ask for it: the daemon runs it in its tenant's turn.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Refresh a KB through Dagster and publish what passes its checks.

    Exit status 0 done, 1 failed, 3 held by a check, 4 snoozed: a daily quota of the tenant's plan is used up.
    """
    from kb_pipeline.cli.build import EXIT_STATUS, run_refresh
    from kb_pipeline.cli.output import out, print_json, print_stages, warn
    from kb_pipeline.control.kbs.catalog import get_kb
    from kb_pipeline.control.runs.requests import request_run

    if force:
        require_scope("manage")  # it lets through what would wait for approval
    session = Session()
    key = _key(kb)
    _ = get_kb(session.db, key).spec  # an unknown KB or a missing variable is said before anything starts
    options = ["force"] * force
    if queue:
        asked = request_run(session.db, key, options, session.settings.actor)
        print_json({"kb": kb, "status": "queued"} | asked.as_json()) if as_json else out.print(
            f"{key}: queued; kb status {key} shows how it goes"
        )
        return
    result = run_refresh(session.settings, session.db, key, *options)
    if as_json:
        print_json(result)
    else:
        print_stages(result["stages"])
        version = f", version {result['version']}" if result["version"] else ""
        out.print(f"{key}: {result['status']}{version} in {result['seconds']:.1f} s")
    if result["message"]:
        (warn if EXIT_STATUS[result["status"]] == 0 else _say)(result["message"])
    raise typer.Exit(EXIT_STATUS[result["status"]])


def _say(message: str) -> None:
    sys.stderr.write(f"kb: {message}\n")


@app.command()
def status(kb: KbArgument, as_json: JsonOption = False) -> None:
    """Show the live version, what runs now and how the last refresh ended."""
    from kb_pipeline.cli.output import out, print_json, print_stages
    from kb_pipeline.control.runs.status import describe_kb

    described = describe_kb(Session().db, _key(kb))
    if as_json:
        print_json(described.as_json())
        return
    for name in ("kb", "status", "live_version", "documents", "chunks", "model"):
        out.print(f"{name:<13} {getattr(described, name)}")
    if running := described.running:
        out.print(f"{'running':<13} {running.stage} {running.done}/{running.total}, {running.eta_s} s left")
    for asked in described.requested:
        out.print(f"{'requested':<13} {asked.requested_at.isoformat()[:19]} by {asked.requested_by}", markup=False)
    if last := described.last_run:
        out.print(f"{'last run':<13} {last.run_id} {last.status} {last.message or ''}", markup=False)
        print_stages(last.stages)


@app.command()
def search(
    kb: KbArgument,
    query: Annotated[str, typer.Argument(help="Words or a question.", callback=text)],
    k: Annotated[int, typer.Option("-k", help="How many hits, 1 to 100.")] = 5,
    mode: Annotated[Literal["hybrid", "vector", "keyword"], typer.Option(help="How to rank.")] = "hybrid",
    language: Annotated[str | None, typer.Option(help="Only documents in that language (ISO 639).")] = None,
    provenance: Annotated[bool, typer.Option("--provenance", help="Say where each hit came from.")] = False,
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """Search the live version, or an earlier one."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.search import hits_as_json, print_hits, search_kb
    from kb_pipeline.index.documents import provenance_of
    from kb_pipeline.index.reader import VersionReader
    from kb_pipeline.operations.search import read_version

    session, key = Session(), _key(kb)
    store = session.store(key)

    def ask(manifest: Manifest) -> tuple[list[Hit], list[HitProvenance] | None]:
        version = VersionReader(store, manifest)
        hits = search_kb(session.settings, version, query, k=k, mode=mode, language=language)
        return hits, provenance_of(version, hits) if provenance else None

    manifest, (hits, provenances) = read_version(session.db, key, as_of, ask)
    if as_json:
        number = manifest.version
        print_json({"kb": kb, "version": number, "mode": mode, "hits": hits_as_json(hits, provenances)})
    else:
        print_hits(hits, provenances)


@app.command()
def documents(kb: KbArgument, as_of: AsOf = None, as_json: JsonOption = False) -> None:
    """List the documents of the live version, or an earlier one."""
    from kb_pipeline.cli.output import print_json, print_table
    from kb_pipeline.index.documents import list_documents

    session, key = Session(), _key(kb)
    rows = (document.as_json() for document in list_documents(session.version(key, as_of)))
    if as_json:
        for row in rows:
            print_json(row)
        return
    columns = ["key", "title", "language", "chunks"]
    print_table(columns, ([row[name] for name in columns] for row in rows))


@app.command()
def page(
    kb: KbArgument,
    key: KeyArgument,
    raw: Annotated[bool, typer.Option("--raw", help="The exact bytes instead of the Markdown.")] = False,
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """Show a document's Markdown (or its exact bytes) and where it came from."""
    from kb_pipeline.cli.output import err, print_json
    from kb_pipeline.index.documents import read_document, read_raw_bytes

    session, kb_key = Session(), _key(kb)
    version = session.version(kb_key, as_of)
    document = read_document(version, key)
    if as_json:
        print_json(document.as_json())
    elif raw:
        sys.stdout.buffer.write(read_raw_bytes(version, key))
    else:
        from kb_pipeline.cli.output import printable

        sys.stdout.write(printable(document.markdown) + "\n")
        fields = document.as_json()
        del fields["markdown"]
        for name, value in fields.items():
            err.print(f"{name:<14} {value}", markup=False, style="dim")


@app.command()
def failures(kb: KbArgument, as_json: JsonOption = False) -> None:
    """List what could not be turned into searchable text, at which stage and why."""
    from kb_pipeline.cli.output import print_failures, print_json
    from kb_pipeline.control.kbs.catalog import get_kb
    from kb_pipeline.control.runs.failures import list_failures

    session, key = Session(), _key(kb)
    get_kb(session.db, key)
    rows = list(list_failures(session.db, key))
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    print_failures(rows)


@app.command()
def retry(
    kb: KbArgument,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID...]", help="Failures, as `kb failures` lists.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Refresh a KB and say which of its failures (or of the given ones) are left; exit status 1 if any is."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.retry import print_left, retry_failures

    session = Session()
    left = retry_failures(session.settings, session.db, _key(kb), ids or [])
    print_json([row.as_json() for row in left]) if as_json else print_left(left)
    raise typer.Exit(1 if left else 0)


@app.command()
def versions(kb: KbArgument, as_json: JsonOption = False) -> None:
    """List the versions of a KB, newest first."""
    from kb_pipeline.cli.output import print_json, print_table
    from kb_pipeline.control.kbs.versions import list_versions

    rows = list(list_versions(Session().db, _key(kb)))
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    scores = {"recall@5": "known_item_recall_at_5", "mrr": "known_item_mrr"}
    print_table(
        ["version", "status", "created", "documents", "chunks", *scores],
        ([*_described(row), *(row.scores.get(name) for name in scores.values())] for row in rows),
    )


def _described(row: VersionRecord) -> list[object]:
    number = f"{row.version}{' live' if row.live else ''}"
    return [number, row.status, row.created_at.isoformat()[:16], row.documents, row.chunks]


@app.command()
def rollback(kb: KbArgument, version: VersionArgument, as_json: JsonOption = False) -> None:
    """Make an earlier version live again; nothing is fetched, embedded or copied."""
    from kb_pipeline.cli.output import out, print_json
    from kb_pipeline.operations.rollback import rollback_kb

    session = Session()
    result = rollback_kb(session.settings, session.db, _key(kb), version)
    if as_json:
        print_json(result)
    else:
        out.print(f"{kb}: version {version} is live, version {result['from']} was rolled back")


@app.command()
def approve(kb: KbArgument, version: VersionArgument, as_json: JsonOption = False) -> None:
    """Publish a version that a check held."""
    from kb_pipeline.cli.output import out, print_json
    from kb_pipeline.operations.approve import approve_version

    session = Session()
    result = approve_version(session.settings, session.db, _key(kb), version)
    if as_json:
        print_json(result)
    else:
        out.print(f"{kb}: version {version} is live")


@app.command()
def diff(
    kb: KbArgument,
    v1: Annotated[str, typer.Argument(metavar="V1", help="The earlier version: its number or an ISO time.")],
    v2: Annotated[str, typer.Argument(metavar="V2", help="The later version.")],
    feed: Annotated[bool, typer.Option("--feed", help="Every change as JSON lines, to apply in order.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show which documents and chunks one version added to, changed in or removed from another."""
    from kb_pipeline.cli.diff import print_diff
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.index.diff import change_feed, diff_versions

    session, key = Session(), _key(kb)
    found = diff_versions(session.version(key, v1), session.version(key, v2))
    if feed:
        for change in change_feed(found):
            print_json(change.as_json())
        return
    (print_json if as_json else print_diff)(found.as_json())


@app.command()
def export(
    kb: KbArgument,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A directory that does not exist yet.", callback=own_path)
    ],
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """Write a version as Parquet files: documents, chunks with their vectors, and its manifest."""
    from kb_pipeline.cli.output import out, print_json
    from kb_pipeline.index.export import export_version

    session, key = Session(), _key(kb)
    exported = export_version(session.version(key, as_of), directory)
    if as_json:
        print_json(exported.as_json())
        return
    for file in exported.files:
        out.print(f"{file.name:<18} {file.bytes:>12,} bytes  sha256 {file.sha256}")
    told = f"version {exported.version}, {exported.documents} documents, {exported.chunks} chunks"
    out.print(f"{key}: {told} in {exported.directory}", markup=False)


@app.command()
def replay(
    kb: KbArgument,
    key: KeyArgument,
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """Make a document's chunks again from its stored bytes by the recorded rules; exit status 1 if they differ."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.replay import print_replay
    from kb_pipeline.operations.replay import replay_document

    session, kb_key = Session(), _key(kb)
    result = replay_document(session.version(kb_key, as_of), key)
    (print_json if as_json else print_replay)(result.as_json())
    raise typer.Exit(0 if result.matches else 1)


@app.command()
def erase(
    kb: KbArgument,
    key: KeyArgument,
    lift: Annotated[bool, typer.Option("--lift", help="Let an erased document be fetched again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a document from every kept version, raw bytes, caches and indexes for good; prints the receipt."""
    from kb_pipeline.cli.erase import print_receipt
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.operations.erase_document import erase_document, lift_erasure

    session, kb_key = Session(), _key(kb)
    if lift:
        receipt = lift_erasure(session.settings, session.db, kb_key, key)
    else:
        receipt = erase_document(session.settings, session.db, kb_key, key)
    (print_json if as_json else print_receipt)(receipt.as_json())


@app.command()
def delete(kb: KbArgument, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Remove a KB at once, everything of it; its key is not reused silently. Prints the receipt."""
    from kb_pipeline.cli.removal import delete_one_kb, print_removal

    key = _key(kb)
    confirm(f"Remove everything of {key} now, for good?", yes=yes)
    print_removal(delete_one_kb(Session(), key), as_json=as_json)


@app.command()
def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A directory that does not exist yet.")],
    as_json: JsonOption = False,
) -> None:
    """Copy control plane and data as they are at one moment, while refreshes go on."""
    from kb_pipeline.cli.backup import print_outcome
    from kb_pipeline.operations.backup import make_backup

    session = Session()
    print_outcome(make_backup(session.settings, session.db, directory), as_json=as_json)


@app.command()
def restore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A backup.")],
    into: Annotated[Path | None, typer.Option(metavar="HOME", help="An empty home; without it, KB_HOME.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into an empty home, every checksum verified before, every live version searched once."""
    from kb_pipeline.cli.backup import print_outcome, settings_of
    from kb_pipeline.operations.restore import restore_backup

    print_outcome(restore_backup(settings_of(into), directory), as_json=as_json)


@app.command()
def extract(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="HTML, text or Markdown files.")],
    url: Annotated[str | None, typer.Option(help="Where the page came from, for its relative links.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the clean stage alone over files: JSON lines with title, language, text and Markdown."""
    from kb_pipeline.cli.extract import extract_files
    from kb_pipeline.cli.output import print_json

    failed = False
    for result in extract_files(files, url):
        failed |= "error" in result
        print_json(result)
    raise typer.Exit(1 if failed else 0)


@app.command()
def demo(
    url: Annotated[str | None, typer.Option(help="Build a KB of this site instead of the bundled one.")] = None,
) -> None:
    """Build a KB of the bundled sample site (or of your own) and ask it three questions."""
    from kb_pipeline.cli.demo import run_demo

    raise typer.Exit(run_demo(url))


@app.command()
def ui(port: Annotated[int, typer.Option(help="Where the web UI listens, on loopback.")] = 3000) -> None:
    """Start Dagster's web UI, sensors and schedules on this home."""
    from kb_pipeline.cli.ui import serve

    serve(Session().settings, port)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check what kb_pipeline depends on; exit status 1 if anything is broken."""
    from kb_pipeline.cli.doctor import examine
    from kb_pipeline.cli.output import print_json, print_table

    findings = examine()
    if as_json:
        print_json(findings)
    else:
        print_table(["check", "ok", "what"], ([f["check"], "yes" if f["ok"] else "NO", f["what"]] for f in findings))
    raise typer.Exit(0 if all(f["ok"] for f in findings) else 1)
