"""The protocol in memory: what is listed and answered, for whom, and how what is wrong is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import ResourceTemplateReference, TextContent, TextResourceContents

from kb_pipeline.control.tenancy.token_holder import Scope
from kb_pipeline.index.filtered_rows import ATTRIBUTES
from kb_pipeline.installation import Installation
from kb_pipeline.service.mcp.server import TOOLS
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.mcp.talking import MODES, ORDER, call, in_memory
from kb_pipeline_tests.service.mcp.test_budget import told
from kb_pipeline_tests.service.serving import key_of

READING = ["list_kbs", "search_kb", "ask_kb", "read_document", "find_similar", "kb_changes", "job_status"]
WRITING = ["refresh_kb", "retry_failures"]
CALLS: dict[str, dict[str, Any]] = {
    "search_kb": {"query": "apples"},
    "ask_kb": {"question": "where do apples keep"},
    "read_document": {"document": "0" * 32},
    "find_similar": {"chunk": "0" * 32},
    "kb_changes": {"since_version": 1},
    "refresh_kb": {},
    "retry_failures": {},
}
"""Arguments of every tool that takes a KB, beside it."""


def deep(levels: int) -> dict[str, Any]:
    """Return a filter within filters."""
    given: dict[str, Any] = {"type": "exists", "key": "url", "value": True}
    for _ in range(levels):
        given = {"type": "not", "filters": [given]}
    return given


@pytest.mark.parametrize("mode", MODES)
def test_the_protocol_is_negotiated_and_everything_is_listed(ours: Installation, mode: str) -> None:
    async def talk(client: Client) -> None:
        assert client.protocol_version == {"auto": "2026-07-28", "legacy": "2025-11-25"}[mode]
        assert client.instructions
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == READING + WRITING
        for tool in tools:
            assert tool.title
            assert tool.description
            assert tool.output_schema
            assert tool.input_schema["additionalProperties"] is False
            assert tool.annotations
            assert tool.annotations.read_only_hint is (tool.name in READING)
            assert tool.annotations.destructive_hint is False
            assert tool.annotations.idempotent_hint is (tool.name in READING)
            assert tool.annotations.open_world_hint is (tool.name in WRITING)
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["answer_from_kb"]
        (template,) = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "kb://{kb}/documents/{key}{?version}"

    in_memory(ours, talk, mode)


def test_every_tool_that_takes_a_kb_is_called_by_these_tests() -> None:
    assert {"list_kbs", "job_status", *CALLS} == set(TOOLS)


def test_kbs_are_listed_to_those_who_may_read_them(ours: Installation, operator: Installation) -> None:
    (shown,) = call(ours, "list_kbs").structured_content["kbs"]
    assert (shown["kb"], shown["live_version"], shown["status"]) == ("acme.docs", 2, "ready")
    assert [each["kb"] for each in call(operator, "list_kbs").structured_content["kbs"]] == ["acme.docs", "globex.docs"]


def test_a_hit_says_all_that_a_citation_needs(ours: Installation) -> None:
    result = call(ours, "search_kb", kb="acme.docs", query="what is slivovitz", k=3)
    best = result.structured_content["hits"][0]
    assert (best["kb"], best["version"], best["title"], best["headings"]) == ("acme.docs", 2, "Plums", ["Plums"])
    assert best["url"].endswith("/plums")
    assert "slivovitz" in best["text"]
    assert best["document"] in told(result)
    assert best["chunk"] in told(result)
    assert f"characters {best['start']}-{best['end']}" in told(result)


def test_earlier_versions_and_times_are_searched_and_read(ours: Installation) -> None:
    for as_of in (1, "1"):
        found = call(ours, "search_kb", kb="acme.docs", query="slivovitz", mode="keyword", as_of=as_of)
        assert (found.structured_content["version"], found.structured_content["hits"]) == (1, [])
    plums = call(ours, "search_kb", kb="acme.docs", query="plums", as_of=1, k=1).structured_content["hits"][0]
    then = call(ours, "read_document", kb="acme.docs", document=plums["document"], version=1).structured_content
    now = call(ours, "read_document", kb="acme.docs", document=plums["url"]).structured_content
    assert "prunes" in then["text"]
    assert "slivovitz" in now["text"]
    assert now["document"] == then["document"]


def test_a_language_and_a_low_detail_narrow_a_search(ours: Installation) -> None:
    asked = {"kb": "acme.docs", "query": "row 7 is pruned", "k": 1}
    assert call(ours, "search_kb", **asked, language="fr").structured_content["hits"] == []
    assert call(ours, "search_kb", **asked, language="en").structured_content["hits"][0]["language"] == "en"
    low = call(ours, "search_kb", **asked, detail="low").structured_content["hits"][0]
    full = call(ours, "search_kb", **asked).structured_content["hits"][0]
    assert low["chunk"] == full["chunk"]
    assert len(low["text"]) < len(full["text"])
    assert low["text_is_cut"]


def test_what_is_like_a_chunk_or_a_document_is_found_and_is_not_itself(ours: Installation) -> None:
    apples = call(ours, "search_kb", kb="acme.docs", query="apples cellar", k=1).structured_content["hits"][0]
    for names in ({"chunk": apples["chunk"]}, {"document": apples["document"]}):
        found = call(ours, "find_similar", kb="acme.docs", k=4, **names).structured_content["hits"]
        documents = [hit["document"] for hit in found]
        assert len(documents) == len(set(documents)) == 4
        assert apples["document"] not in documents
        assert [hit["score"] for hit in found] == sorted((hit["score"] for hit in found), reverse=True)


def test_what_changed_since_a_version_is_told_document_by_document(ours: Installation) -> None:
    changed = call(ours, "kb_changes", kb="acme.docs", since_version=1).structured_content
    assert (changed["since_version"], changed["version"]) == (1, 2)
    assert (changed["added"], changed["changed"], changed["removed"]) == (3, 2, 0)
    assert {each["key"].rpartition("/")[2]: each["change"] for each in changed["changes"]} == {
        "order": "added", "pruning": "added", "aepfel": "added", "plums": "changed", "": "changed",
    }  # fmt: skip
    assert call(ours, "kb_changes", kb="acme.docs", since_version=2).structured_content["changes"] == []


def test_changes_that_do_not_fit_go_on_by_cursor(ours: Installation) -> None:
    asked = {"kb": "acme.docs", "since_version": 1, "max_tokens": 500}
    whole = call(ours, "kb_changes", **asked | {"max_tokens": 4000}).structured_content["changes"]
    found: list[Any] = []
    cursor = None
    while cursor is not None or not found:
        part = call(ours, "kb_changes", **asked, cursor=cursor).structured_content
        found, cursor = found + part["changes"], part["cursor"]
    assert found == whole


def test_a_question_is_answered_in_the_kbs_words_with_all_that_a_citation_needs(ours: Installation) -> None:
    result = call(ours, "ask_kb", kb="acme.docs", question="What is the brandy called that plums are distilled into?")
    answer = result.structured_content
    assert (answer["kb"], answer["version"], answer["verdict"], answer["left_out"]) == ("acme.docs", 2, "grounded", 0)
    assert "slivovitz" in answer["sentences"][0]["text"]
    cited = [each for sentence in answer["sentences"] for each in sentence["citations"]]
    assert [each["number"] for each in cited] == list(range(1, len(cited) + 1))
    for each in cited:
        document = ours.kb("acme/docs").document_by_id(each["document"], as_of=each["version"])
        assert (document.title, document.provenance.url) == (each["title"], each["url"])
        assert each["chunk"] in told(result)
    assert cited[0]["url"].endswith("/plums")
    quoted = ours.kb("acme/docs").document(cited[0]["url"]).markdown[cited[0]["start"] : cited[0]["end"]]
    assert quoted.split() == answer["sentences"][0]["text"].split()
    assert told(result).startswith("Answer from acme.docs, version 2: grounded")
    assert "called slivovitz. [1]" in told(result)


def test_a_question_that_the_kb_does_not_answer_is_refused_in_plain_words(ours: Installation) -> None:
    result = call(ours, "ask_kb", kb="acme.docs", question="Where do apples keep for months?", language="ja")
    answer = result.structured_content
    assert not result.is_error
    assert (answer["verdict"], answer["sentences"]) == ("refused", [])
    assert answer["score"] <= answer["threshold"]
    assert told(result).startswith("No answer: acme.docs, version 2, does not answer this")


def test_answers_and_searches_keep_to_what_filters_and_version_leave(ours: Installation) -> None:
    here = call(ours, "search_kb", kb="acme.docs", query="slivovitz", k=1).structured_content["hits"][0]
    others = {"type": "ne", "key": "url", "value": here["url"]}
    found = call(ours, "search_kb", kb="acme.docs", query="slivovitz", k=20, filters=others).structured_content["hits"]
    assert found
    assert here["url"] not in {each["url"] for each in found}
    asked = {"kb": "acme.docs", "question": "What is the brandy called that plums are distilled into?"}
    assert "slivovitz" in told(call(ours, "ask_kb", **asked))
    for narrowed in ({"filters": others}, {"as_of": 1}, {"language": "fr"}):
        assert "slivovitz" not in told(call(ours, "ask_kb", **asked, **narrowed))


def test_the_schema_of_filters_names_every_attribute(ours: Installation) -> None:
    for tool in ("search_kb", "ask_kb"):
        said = TOOLS[tool].shown().input_schema["properties"]["filters"]["description"]
        assert [name for name in ATTRIBUTES if name not in said] == []
        example = json.loads(said[said.index("{") : said.rindex("}") + 1])
        needed = {"query": "apples"} if tool == "search_kb" else {"question": "where do apples keep"}
        assert not call(ours, tool, kb="acme.docs", filters=example, **needed).is_error


def test_a_refresh_that_is_asked_for_waits_in_its_tenants_turn_and_is_followed_as_a_job(ours: Installation) -> None:
    jobs = {}
    for tool in WRITING:
        first, second = (call(ours, tool, kb="acme.docs") for _ in range(2))
        assert first.structured_content == second.structured_content
        jobs[tool] = first.structured_content["job"]
        assert f"job_status with job={jobs[tool]}" in told(first)
        shown = call(ours, "job_status", job=jobs[tool])
        state = shown.structured_content
        assert (state["job"], state["kb"], state["state"], state["has_ended"]) == (
            jobs[tool], "acme.docs", "queued", False,
        )  # fmt: skip
        assert (state["percent"], state["counts"]["pages_scraped"], state["messages"]) == (0, 0, [])
        assert f"Job {jobs[tool]} of acme.docs: queued, 0 per cent" in told(shown)
    assert ours.job(jobs["refresh_kb"]).options == ()
    assert ours.job(jobs["retry_failures"]).options == ("retry",)


def test_another_tenants_job_is_an_unknown_one(ours: Installation, operator: Installation) -> None:
    theirs, _ = operator.kb("globex/docs").start_job()
    unknown = theirs[:-1] + ("0" if theirs[-1] != "0" else "1")
    refused, none_such = (call(ours, "job_status", job=job) for job in (theirs, unknown))
    assert refused.is_error
    assert none_such.is_error
    assert told(refused).replace(theirs, unknown) == told(none_such)


@pytest.mark.parametrize(
    ("scopes", "seen"),
    [(("read",), READING), (("build",), WRITING), (("manage",), []), (("read", "build"), [*READING, *WRITING])],
)
def test_who_may_not_use_a_tool_neither_sees_it_nor_can_call_it(
    library: Home, operator: Installation, scopes: tuple[Scope, ...], seen: list[str]
) -> None:
    home = operator.acting_as(key_of(library, "acme", *scopes))

    async def talk(client: Client) -> None:
        assert [tool.name for tool in (await client.list_tools()).tools] == seen
        for tool in set(TOOLS) - set(seen):
            with pytest.raises(MCPError) as hidden:
                await client.call_tool(tool, {"kb": "acme.docs"} | CALLS.get(tool, {}))
            with pytest.raises(MCPError) as none_such:
                await client.call_tool("none_such", {})
            assert str(hidden.value).replace(tool, "none_such") == str(none_such.value)

    in_memory(home, talk)


def test_another_tenants_kb_is_an_unknown_one_to_every_tool_resource_and_prompt(ours: Installation) -> None:
    async def talk(client: Client) -> None:
        for tool, arguments in CALLS.items():
            theirs, unknown = [
                await client.call_tool(tool, {"kb": kb, **arguments}) for kb in ("globex.docs", "nobody.docs")
            ]
            assert theirs.is_error
            assert unknown.is_error
            assert told(theirs).replace("globex", "nobody") == told(unknown), tool
        for uri in ("kb://{}/documents/x", "kb://{}/documents/" + "0" * 32, "kb://{}/documents/x?version=1"):
            errors = []
            for kb in ("globex.docs", "nobody.docs"):
                with pytest.raises(MCPError) as refused:
                    await client.read_resource(uri.format(kb))
                errors.append(str(refused.value).replace("globex", "nobody"))
            assert errors[0] == errors[1]
        errors = []
        for kb in ("globex.docs", "nobody.docs"):
            with pytest.raises(MCPError) as refused:
                await client.get_prompt("answer_from_kb", {"kb": kb, "question": "why"})
            errors.append(str(refused.value).replace("globex", "nobody"))
        assert errors[0] == errors[1]
        listed = await client.list_resources()
        assert all(resource.uri.startswith("kb://acme.docs/") for resource in listed.resources)
        completed = await client.complete(
            ResourceTemplateReference(uri="kb://{kb}/documents/{key}{?version}"), {"name": "kb", "value": ""}
        )
        assert completed.completion.values == ["acme.docs"]

    in_memory(ours, talk)


def test_documents_are_resources_under_their_keys_and_ids(ours: Installation) -> None:
    async def talk(client: Client) -> None:
        listed = (await client.list_resources()).resources
        assert len(listed) == 8
        plums = next(each for each in listed if each.name.endswith("/plums"))
        assert plums.uri.startswith("kb://acme.docs/documents/http%3A%2F%2F")
        assert plums.mime_type == "text/markdown"
        document_id = ours.kb("acme/docs").document(plums.name).document_id
        for uri, word in ((plums.uri, "slivovitz"), (f"kb://acme.docs/documents/{document_id}", "slivovitz"),
                          (f"{plums.uri}?version=1", "prunes")):  # fmt: skip
            (contents,) = (await client.read_resource(uri)).contents
            assert isinstance(contents, TextResourceContents)
            assert word in contents.text

    in_memory(ours, talk)


def test_resources_are_listed_a_page_at_a_time_over_all_kbs(
    operator: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kb_pipeline.service.mcp.resources._PAGE", 3)

    async def talk(client: Client) -> list[str]:
        page = await client.list_resources()
        uris = [each.uri for each in page.resources]
        while page.next_cursor:
            page = await client.list_resources(cursor=page.next_cursor)
            assert len(page.resources) <= 3
            uris += [each.uri for each in page.resources]
        return uris

    uris = in_memory(operator, talk)
    assert len(uris) == len(set(uris)) == 8 + 5
    assert [uri.split("/")[2] for uri in uris] == ["acme.docs"] * 8 + ["globex.docs"] * 5


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search_kb", {"kb": "acme.docs"}, "query: Field required"),
        ("search_kb", {"kb": "acme.docs", "query": "x", "k": 21}, "k: Input should be less than or equal to 20"),
        ("search_kb", {"kb": "acme.docs", "query": "x", "limit": 3}, "limit: there is no such argument; there are"),
        ("search_kb", {"kb": "acme.docs", "query": "x", "max_tokens": 10**9}, "less than or equal to 25000"),
        ("search_kb", {"kb": "acme.docs", "query": "x", "cursor": "?"}, "the cursor is not one that this service gave"),
        ("search_kb", {"kb": "acme.docs", "query": "x", "cursor": "MTp4"}, "the cursor is of another search"),
        ("search_kb", {"kb": "acme.docs", "query": "x", "filters": {"type": "is"}}, "filters.type: Input should be"),
        ("search_kb", {"kb": "acme.docs", "query": "x", "filters": deep(9)}, "allowed are 8 levels"),
        (
            "search_kb",
            {"kb": "acme.docs", "query": "x", "filters": {"type": "eq", "key": "colour", "value": "red"}},
            "documents have no attribute 'colour' to filter by; there are: ",
        ),
        (
            "search_kb",
            {"kb": "acme.docs", "query": "x", "filters": {"type": "eq", "key": "url", "value": "a", "id": 1}},
            "filters.id: Extra inputs are not permitted",
        ),
        ("ask_kb", {"kb": "acme.docs", "question": "x", "k": 21}, "k: Input should be less than or equal to 20"),
        ("ask_kb", {"kb": "acme.docs", "question": "x", "mode": "generate"}, "mode: there is no such argument"),
        ("ask_kb", {"kb": "acme.docs", "question": "x", "as_of": 9}, "no searchable version 9"),
        ("job_status", {"job": "none"}, "no job 'none' here"),
        ("retry_failures", {"kb": "acme.docs", "names": ["x"]}, "names: there is no such argument; there are kb"),
        ("kb_changes", {"kb": "acme.docs", "since_version": 1, "cursor": "MTp4"}, "not one that this tool gave"),
        ("kb_changes", {"kb": "acme.docs", "since_version": 1, "cursor": "OTk6MQ"}, "begin anew without the cursor"),
        ("search_kb", {"kb": "acme.docs", "query": "  "}, "the query is empty"),
        ("search_kb", {"kb": "../../etc", "query": "x"}, "no such KB here"),
        ("search_kb", {"kb": "acme.docs", "query": "x", "as_of": 9}, "no searchable version 9"),
        ("read_document", {"kb": "acme.docs", "document": "/none"}, "no document '/none'"),
        ("read_document", {"kb": "acme.docs", "document": "0" * 32, "from": -1}, "from: Input should be greater than"),
        ("find_similar", {"kb": "acme.docs"}, "give the id of a chunk or that of a document"),
        ("find_similar", {"kb": "acme.docs", "chunk": "0"}, "has no chunk, and no document with chunks, of the id '0'"),
        ("kb_changes", {"kb": "acme.docs", "since_version": 7}, "no searchable version 7"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_call_is_told_with_what_to_do(
    ours: Installation, tool: str, arguments: dict[str, Any], said: str
) -> None:
    result = call(ours, tool, **arguments)
    assert result.is_error
    assert said in told(result)
    assert "Traceback" not in told(result)
    assert "pydantic" not in told(result)


def test_a_fault_is_told_without_what_it_says_and_lies_in_the_log(
    ours: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError(ORDER)

    monkeypatch.setattr("kb_pipeline.service.mcp.reading.kb_named", broken)
    result = call(ours, "search_kb", kb="acme.docs", query="x")
    assert result.is_error
    assert told(result) == "this is a fault of the service; its log says more"
    assert "ZeroDivisionError" in caplog.text


def test_the_prompt_names_the_kb_and_the_question_and_what_is_data(ours: Installation) -> None:
    async def talk(client: Client) -> None:
        got = await client.get_prompt("answer_from_kb", {"kb": "acme/docs", "question": "How long do apples keep?"})
        content = got.messages[0].content
        assert isinstance(content, TextContent)
        assert "kb=acme.docs" in content.text
        assert content.text.endswith("How long do apples keep?")
        for question in ({}, {"question": " "}, {"question": "x" * 5000}):
            with pytest.raises(MCPError, match="takes kb and question"):
                await client.get_prompt("answer_from_kb", {"kb": "acme.docs", **question})
        with pytest.raises(MCPError, match="there is no such prompt"):
            await client.get_prompt("none_such", {})

    in_memory(ours, talk)


def test_a_page_that_gives_orders_changes_no_description_and_no_error(
    ours: Installation, operator: Installation, library: Home
) -> None:
    """What it says arrives as data, within a fence: nothing else that a model reads has a word of it."""
    globex = operator.acting_as(key_of(library, "globex"))
    found = call(ours, "search_kb", kb="acme.docs", query=ORDER, k=3)
    hostile = found.structured_content["hits"][0]
    assert hostile["title"] == ORDER

    async def described(client: Client) -> str:
        listed = [
            client.instructions, *[each.model_dump() for each in (await client.list_tools()).tools],
            *[each.model_dump() for each in (await client.list_prompts()).prompts],
            *[each.model_dump() for each in (await client.list_resource_templates()).resource_templates],
        ]  # fmt: skip
        return json.dumps(listed)

    assert in_memory(ours, described) == in_memory(globex, described), "the other tenant's KB has no such page"
    results = [
        found,
        call(ours, "read_document", kb="acme.docs", document=hostile["document"]),
        call(ours, "find_similar", kb="acme.docs", document=hostile["document"], k=8),
        call(ours, "kb_changes", kb="acme.docs", since_version=1),
    ]
    for result in results:
        assert "order" in told(result).lower()
        outside = "\n".join(_outside_of_fences(told(result)))
        assert "order" not in outside.lower()
        assert "ignore all" not in outside
    for arguments in ({"from": 10**6}, {"version": 99}, {"version": 1}):
        failed = call(ours, "read_document", kb="acme.docs", document=hostile["document"], **arguments)
        assert failed.is_error
        assert "order" not in told(failed).lower().replace(hostile["url"], "")


def _outside_of_fences(text: str) -> Iterator[str]:
    fence = None
    for line in text.split("\n"):
        opened = re.fullmatch(r"(`{3,})text", line)
        if fence is None and opened:
            fence = opened[1]
        elif line == fence:
            fence = None
        elif fence is None:
            yield line
    assert fence is None
