"""KB files: what is accepted, and what the errors say."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.errors import InvalidKey, InvalidSpec
from kb_pipeline.model import KbKey
from kb_pipeline.spec.kb_file import KbSpec, as_written, load_spec, parse_spec, parse_stored
from kb_pipeline.spec.sources import FilesSource, WebSource

VALID = """
tenant: acme
kb: handbook
sources:
  - name: site
    type: web
    start_urls: ["https://docs.example.com/"]
    sitemap: auto
    scope: host
    include: ["/guide/**"]
    exclude: ["/guide/old/**"]
    max_pages: 1000
    max_depth: 5
    delay_s: 1.0
    render: never
chunking: {strategy: by_heading, max_tokens: 256, overlap_tokens: 32, preserve_code: true}
embedding: {model: multilingual-e5-small, precision: auto}
schedule: {cron: "0 */2 * * *", timezone: UTC}
publish: {max_shrink: 0.2, min_recall: 0.8}
retention: {versions: 5}
"""
MINIMAL = "tenant: acme\nkb: docs\nsources: [{name: site, type: web, start_urls: ['https://x.example/']}]\n"


def problems_of(yaml: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(yaml, "kb.yaml", environ or {})
    return str(caught.value)


def _site(spec: KbSpec) -> WebSource:
    (source,) = spec.sources
    assert isinstance(source, WebSource)
    return source


def test_the_contracts_example_is_valid() -> None:
    spec = parse_spec(VALID, "kb.yaml", {})
    assert str(spec.key) == "acme/handbook"
    assert _site(spec).include == ["/guide/**"]
    assert spec.schedule is not None


def test_everything_but_the_sources_has_a_default() -> None:
    spec = parse_spec(MINIMAL, "kb.yaml", {})
    assert spec.embedding.model == "multilingual-e5-small"
    assert (_site(spec).delay_s, _site(spec).max_pages, spec.schedule) == (1.0, 1000, None)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            ("delay_s: 1.0", "dealy_s: 1.0"),
            "sources.0.dealy_s: got an unknown field; did you mean delay_s? allowed here: name, type",
        ),
        (("https://docs", "ftp://docs"), "sources.0.start_urls.0: got 'ftp://docs.example.com/'; allowed are absolute"),
        (("https://docs", "https://me:pw@docs"), "must not carry a user name or password"),
        (('cron: "0 */2 * * *"', 'cron: "61 * * * *"'), "schedule.cron: got '61 * * * *'; allowed is a cron"),
        (("timezone: UTC", "timezone: Mars/Olympus"), "allowed are IANA time zones"),
        (("tenant: acme", "tenant: acme/x"), "tenant: got 'acme/x'"),
        (
            ("max_shrink: 0.2", "max_shrink: 1.5"),
            "publish.max_shrink: got 1.5; allowed is a number from 0 to 1",
        ),
        (("overlap_tokens: 32", "overlap_tokens: 200"), "overlap_tokens must be at most half of max_tokens (128)"),
        (("render: never", "render: maybe"), "sources.0.render: got 'maybe'; allowed is never, auto or always"),
        (
            ("render: never", "limits: {body_mb: 0}"),
            "sources.0.limits.body_mb: got 0; allowed is a number above 0, at most",
        ),
        (
            ("render: never", "limits: {pages: 9}"),
            "sources.0.limits.pages: got an unknown field; allowed here: body",
        ),
        (("timezone: UTC", "max_age: 7"), "schedule.max_age: got 7; did you mean 7d? allowed is a number with a unit"),
        (("type: web", "type: gopher"), "sources.0.type: got 'gopher'; allowed is files or web"),
        (("delay_s: 1.0", "delay_s: .nan"), "sources.0.delay_s: got nan; allowed is a number from 0 to 3,600"),
    ],
)
def test_an_error_names_the_field_what_was_given_and_what_is_allowed(edit: tuple[str, str], says: str) -> None:
    assert says in problems_of(VALID.replace(*edit))


def test_every_problem_of_a_file_is_told_at_once() -> None:
    message = problems_of("tenant: A\nkb: b_c\nsources: []\n")
    assert message.startswith("kb.yaml: not a valid KB file, nothing was applied")
    assert [line.split(": ")[1] for line in message.splitlines()[1::3]] == ["tenant", "kb", "sources"]


@pytest.mark.parametrize("yaml", ["tenant: [", "!!python/object/apply:os.system ['true']"])
def test_what_is_no_yaml_or_more_than_yaml_is_refused(yaml: str) -> None:
    assert "(file)" in problems_of(yaml)


def test_source_names_are_unique() -> None:
    source = "{name: site, type: web, start_urls: ['https://x.example/']}"
    assert "must be unique" in problems_of(f"tenant: acme\nkb: docs\nsources: [{source}, {source}]\n")


def test_variables_come_from_the_environment() -> None:
    yaml = MINIMAL.replace("x.example", "${HOST_NAME}")
    assert _site(parse_spec(yaml, "kb.yaml", {"HOST_NAME": "y.example"})).start_urls == ["https://y.example/"]
    assert "${HOST_NAME}: got no such variable; set HOST_NAME with: kb secret set acme HOST_NAME" in problems_of(yaml)


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (("tenant: acme", "tenant: ${X}"), "tenant"),
        (("kb: handbook", "kb: ${X}"), "kb"),
        (("name: site", "name: ${X}"), "sources.0.name"),
        (("multilingual-e5-small", "'${X}'"), "embedding.model"),
        (("timezone: UTC", "timezone: '${X}'"), "schedule.timezone"),
    ],
)
def test_what_is_shown_takes_no_variable(edit: tuple[str, str], where: str) -> None:
    told = problems_of(VALID.replace(*edit), {"X": "hunter2"})
    assert f"{where}: got ${{X}}; variables may stand in the fields of a source" in told
    assert "hunter2" not in told


def test_values_of_variables_are_hidden_however_a_url_spells_them() -> None:
    yaml = MINIMAL.replace("x.example/", "x.example/?t=${TOKEN}&n=${N}")
    spec = parse_spec(yaml, "kb.yaml", {"TOKEN": "s3cr3t/+ü x", "N": "7"})
    said = {"at": ["https://x.example/?t=s3cr3t/+ü x&n=7", "?t=s3cr3t%2F%2b%C3%BC%20x", "s3cr3t%2F+%C3%BC+x", 7]}
    # What is as short as 7 stands everywhere by chance.
    assert spec.redact(said) == {"at": ["https://x.example/?t=${TOKEN}&n=7", "?t=${TOKEN}", "${TOKEN}", 7]}


def test_variables_are_asked_for_of_the_files_tenant_and_only_if_it_names_any(tmp_path: Path) -> None:
    asked: list[tuple[str, frozenset[str]]] = []

    def variables_of(tenant: str, names: frozenset[str]) -> dict[str, str]:
        asked.append((tenant, names))
        return {"HOST_NAME": "y.example"}

    path = tmp_path / "kb.yaml"
    path.write_text(MINIMAL)
    load_spec(path, variables_of)
    path.write_text(MINIMAL.replace("x.example", "${HOST_NAME}"))
    assert _site(load_spec(path, variables_of).spec).start_urls == ["https://y.example/"]
    assert asked == [("acme", frozenset({"HOST_NAME"}))]


def test_no_value_is_shown_when_it_may_be_a_secret() -> None:
    message = problems_of(MINIMAL.replace("https://x.example/", "${TOKEN}"), {"TOKEN": "hunter2"})
    assert "hunter2" not in message
    assert "sources.0.start_urls.0" in message


def test_what_is_stored_keeps_references_instead_of_secrets(tmp_path: Path) -> None:
    path = tmp_path / "kb.yaml"
    path.write_text(MINIMAL.replace("x.example", "${HOST_NAME}"))
    stored = load_spec(path, lambda *_: {"HOST_NAME": "secret.example"}).yaml
    assert "secret.example" not in stored
    assert "${HOST_NAME}" in stored


def test_a_name_that_stands_twice_is_no_error_in_what_an_earlier_release_stored() -> None:
    yaml = MINIMAL + "retention: {versions: 2}\nretention: {versions: 3}\n"
    assert "a field may be given once" in problems_of(yaml)
    assert parse_stored(yaml, "stored", {}).retention.versions == 3


def test_golden_queries_are_read_from_the_file_beside_and_stored(tmp_path: Path) -> None:
    (tmp_path / "golden.yaml").write_text("- {query: how to start, text: make demo}\n")
    path = tmp_path / "kb.yaml"
    path.write_text(MINIMAL + "publish: {queries: golden.yaml}\n")
    loaded = load_spec(path)
    assert loaded.spec.publish.queries[0].text == "make demo"
    assert parse_spec(loaded.yaml, "stored", {}) == loaded.spec


@pytest.mark.parametrize("name", ["missing.yaml", "../golden.yaml", "/etc/passwd"])
def test_golden_queries_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "kb" / "kb.yaml"
    path.parent.mkdir()
    (tmp_path / "golden.yaml").write_text("[]")
    path.write_text(MINIMAL + f"publish: {{queries: {name}}}\n")
    with pytest.raises(InvalidSpec, match=r"publish\.queries"):
        load_spec(path)


def test_an_unreadable_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="give a readable UTF-8 YAML file"):
        load_spec(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"tenant: caf\xe9")
    with pytest.raises(InvalidSpec, match="UTF-8"):
        load_spec(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    "text",
    ["", "acme", "acme/", "/docs", "Acme/docs", "acme/docs/x", "../etc", "a b/c", "acme/-x", "a/" + "x" * 64, "a/b\n"],
)
def test_keys_that_are_no_slugs_are_refused(text: str) -> None:
    with pytest.raises(InvalidKey):
        KbKey.parse(text)


def test_a_key_reads_back() -> None:
    assert str(KbKey.parse("acme/docs-2")) == "acme/docs-2"


FILES = "tenant: acme\nkb: docs\nsources: [{name: manuals, type: files, root: /srv/docs, paths: ['manuals/**/*.md']}]\n"


def test_a_source_of_files_has_defaults() -> None:
    (source,) = parse_spec(FILES, "kb.yaml").sources
    assert source == FilesSource(
        name="manuals", type="files", root="/srv/docs", paths=["manuals/**/*.md"], exclude=[], max_files=10_000,
        max_file_mb=20,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("root: /srv/docs", "root: srv/docs"), "sources.0.root: got 'srv/docs'; allowed is the absolute path of a"),
        (("root: /srv/docs", "root: /srv/../etc"), "sources.0.root: got '/srv/../etc'; allowed is the absolute path"),
        (("root: /srv/docs", "root: 's3://bucket/docs'"), "sources.0.root: got 's3://bucket/docs'; only folders"),
        (("root: /srv/docs", "root: uploads"), "sources.0.root: got 'uploads'; only folders of this machine"),
        (("manuals/**/*.md", "/etc/**"), "sources.0.paths.0: got '/etc/**'; allowed are paths relative to root"),
        (("manuals/**/*.md", "../**"), "sources.0.paths.0: got '../**'; allowed are paths relative to root"),
        (("manuals/**/*.md", "a**/b"), "sources.0.paths.0: got 'a**/b'; use ** alone between slashes"),
        (("root: /srv/docs, ", ""), "sources.0.root: got nothing; this field is required"),
        (("root: /srv/docs", "root: /srv, delay: 1"), "sources.0.delay: got an unknown field; allowed here: name"),
        (("type: files, ", ""), "sources.0.type: got nothing; this field is required: files or web"),
        (("type: files", "type: gopher"), "sources.0.type: got 'gopher'; allowed is files or web"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_source_of_files_is_named(change: tuple[str, str], told: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(FILES.replace(*change), "kb.yaml")
    assert told in str(caught.value)


WRITTEN = """
tenant: acme
kb: docs
sources:
  - {name: site, type: web, start_urls: ["http://a.example/"], limits: {path_segments: 9},
     exclude: [/old/**, "/${KEY}/**"]}
  - {name: files, type: files, root: /srv, paths: ["*.md", "*.txt"]}
"""


@pytest.mark.parametrize(
    ("source", "place", "told"),
    [
        (0, ("exclude", 1), "exclude: /${KEY}/**"),
        (0, ("limits", "path_segments"), "limits.path_segments: 9"),
        (1, ("paths",), "paths: *.md, *.txt"),
        (0, ("max_depth",), None),
        (0, ("exclude", 7), None),
        (5, ("name",), None),
    ],
)
def test_a_field_is_quoted_as_the_file_has_it(source: int, place: tuple[str | int, ...], told: str | None) -> None:
    assert as_written(WRITTEN, source, place) == told
