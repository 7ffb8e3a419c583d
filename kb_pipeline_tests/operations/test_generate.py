"""A model that lies, fails or does not end is caught every time, with the right verdict."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import kb_pipeline
from kb_pipeline.answers.result import Answer
from kb_pipeline.control.kbs import catalog
from kb_pipeline.errors import AnswerCancelled, KbError, ModelUnavailable, UsageError
from kb_pipeline.installation import Installation, Kb
from kb_pipeline.operations.apply import KbText
from kb_pipeline.settings import load_settings
from kb_pipeline_tests.answers.liar import Liar, liar
from kb_pipeline_tests.published import Published

QUESTION = "How long do apples keep in a cool cellar?"


@dataclass(frozen=True)
class Asked:
    """A KB whose file names the liar."""

    home: Installation
    model: Liar

    def set_model(self, **fields: object) -> None:
        """Name the model in the KB file, as its operator would."""
        file = self.kb.file()
        section = {"url": self.model.url, "model": "liar", "timeout": "5s", **fields}
        body = file.yaml.split("\nanswers:")[0] if "\nanswers:" in file.yaml else file.yaml
        text = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in section.items())
        self.home.apply(KbText(f"{body.rstrip()}\nanswers:\n{text}", "docs.yaml"))

    @property
    def kb(self) -> Kb:
        return self.home.kb("acme/docs")

    def ask(self, text: str, behaviour: str = "answer", failures: int = 0, **options: object) -> Answer:
        self.model.text, self.model.behaviour, self.model.failures = text, behaviour, failures
        return self.kb.answer(QUESTION, mode="generate", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def home(first_build: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    import shutil

    from kb_pipeline_tests.databases import copy_home

    folder = tmp_path_factory.mktemp("generate") / "home"
    copy_home(first_build.kb.folder / "home", folder)
    settings = replace(load_settings(folder), allowed_networks=("127.0.0.0/8",))
    with kb_pipeline.open(settings=settings) as opened:
        yield opened
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def asked(home: Installation) -> Iterator[Asked]:
    with liar() as model:
        found = Asked(home, model)
        found.set_model()
        yield found


def kinds(answer: Answer) -> list[str]:
    return [each.kind for each in answer.findings]


def test_a_truthful_answer_is_grounded_in_the_stored_text(asked: Asked) -> None:
    answer = asked.ask('Apples keep. [1: "{quote}"]')
    assert (answer.verdict, kinds(answer)) == ("grounded", [])
    (citation,) = answer.citations
    document = asked.kb.document(citation.key, as_of=citation.version)
    assert document.markdown[citation.start : citation.end] == citation.quote
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (900, 100)
    (used,) = [each for each in asked.home.usage("acme") if each.operation == "answer"][-1:]
    assert used.model == "liar"
    assert used.tokens >= 1000


@pytest.mark.parametrize(
    ("text", "found", "verdict"),
    [
        ('Pears glow. [1: "pears glow in the deepest dark of night"]', ["fabricated"], "refused"),
        ('So it is. [2: "{quote}"]', ["misattributed"], "refused"),
        ('So it is. [77: "{quote}"]', ["number_out_of_range"], "refused"),
        ('So it is. [0: "{quote}"]', ["number_out_of_range"], "refused"),
        ('So it is. [1: ""]', ["quote_too_short"], "refused"),
        ("So it is, and nothing shows it.", ["no_citation"], "refused"),
        ('I don\'t know. [1: "{quote}"]', ["cited_refusal"], "refused"),
        ("NO_ANSWER", [], "refused"),
        ('True. [1: "{quote}"]\nFalse. [1: "pears glow in the deepest dark of night"]', ["fabricated"], "partial"),
    ],
)
def test_a_lie_is_caught_and_named(asked: Asked, text: str, found: list[str], verdict: str) -> None:
    answer = asked.ask(text)
    assert (answer.verdict, kinds(answer)) == (verdict, found)
    assert all(each.supported == bool(each.citations) for each in answer.sentences)
    if verdict == "refused":
        assert answer.sentences == ()


def test_a_stitched_quote_is_caught(asked: Asked) -> None:
    asked.ask("NO_ANSWER")
    words = asked.model.prompt.split("</passage")[0].split("\n", 3)[-1].split()
    words = [word for word in words if word.isalpha()]
    stitched = " ".join([*words[:3], *words[-3:]])
    assert kinds(asked.ask(f'So it is. [1: "{stitched}"]')) == ["stitched"]


def test_unsupported_sentences_are_marked_or_dropped_as_the_file_says(asked: Asked) -> None:
    text = 'True. [1: "{quote}"]\nFalse. [1: "pears glow in the deepest dark of night"]'
    assert [each.supported for each in asked.ask(text).sentences] == [True, False]
    asked.set_model(unsupported="drop")
    answer = asked.ask(text)
    assert ([each.text for each in answer.sentences], answer.verdict) == (["True."], "partial")


def test_an_answer_that_is_cut_off_or_endless_is_partial_at_most(asked: Asked) -> None:
    answer = asked.ask('True. [1: "{quote}"]\nAnd then [1: "{quo', "cut")
    assert (answer.verdict, kinds(answer), len(answer.sentences)) == ("partial", ["cut_off"], 1)
    asked.set_model(max_tokens=64)
    answer = asked.ask('True. [1: "{quote}"]\n', "endless")
    assert (answer.verdict, kinds(answer)) == ("partial", ["too_long"])
    assert asked.model.gone.wait(10), "the endpoint is not listened to any more"


def test_an_endpoint_that_fails_is_asked_again_and_then_given_up(asked: Asked) -> None:
    assert asked.ask('Apples keep. [1: "{quote}"]', failures=2).verdict == "grounded"
    asked.model.asked.clear()
    for status in ("429", "500"):
        with pytest.raises(ModelUnavailable, match=f"it answered {status}, 3 times"):
            asked.ask("", status)
    assert len(asked.model.asked) == 6
    with pytest.raises(ModelUnavailable, match="it answered 401; check"):
        asked.ask("", "401")
    with pytest.raises(ModelUnavailable, match="it answered 302"):
        asked.ask("", "redirect")


def test_an_endpoint_that_keeps_failing_is_spared(asked: Asked) -> None:
    for _ in range(5):
        with pytest.raises(ModelUnavailable):
            asked.ask("", "garbage")
    before = len(asked.model.asked)
    with pytest.raises(ModelUnavailable, match="5 times in a row"):
        asked.ask('Apples keep. [1: "{quote}"]')
    assert len(asked.model.asked) == before


@pytest.mark.parametrize("behaviour", ["hang", "hang_in_stream"])
def test_one_that_hangs_costs_no_more_than_its_time(asked: Asked, behaviour: str) -> None:
    asked.set_model(timeout="1s")
    with pytest.raises(ModelUnavailable, match="more than 1 s"):
        asked.ask("x", behaviour)
    assert asked.model.gone.wait(10)


@pytest.mark.parametrize("behaviour", ["hang", "hang_in_stream", "endless"])
def test_cancelling_ends_the_request_whatever_it_waits_for(asked: Asked, behaviour: str) -> None:
    asked.set_model(timeout="60s", max_tokens=16_384)
    asked.model.text, asked.model.behaviour = "So it is", behaviour
    cancelled = threading.Event()
    events = asked.kb.answer_events(QUESTION, mode="generate", cancelled=cancelled)

    def cancel() -> None:
        while not asked.model.asked:
            time.sleep(0.01)
        cancelled.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(AnswerCancelled):
        list(events)
    thread.join()
    assert asked.model.gone.wait(10)


def test_below_the_threshold_no_model_is_asked(asked: Asked) -> None:
    answer = asked.ask('Apples keep. [1: "{quote}"]', language="ja")
    assert (answer.verdict, asked.model.asked) == ("refused", [])


def test_a_page_that_gives_orders_is_data_between_marks_that_it_cannot_know(asked: Asked) -> None:
    asked.ask("NO_ANSWER")
    (request,) = asked.model.asked
    assert "tools" not in request
    marks = [line.split()[0].strip("<>") for line in asked.model.prompt.splitlines() if line.startswith("<passage-")]
    assert len(set(marks)) == 1
    asked.ask("NO_ANSWER")
    assert marks[0] not in asked.model.prompt, "another one each time"


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/v1",
        "http://10.0.0.1/v1",
        "http://0x7f.1/v1",
        "http://user:pw@127.0.0.1/v1",
        "http://[::1]/v1",
    ],
)
def test_addresses_that_the_operator_did_not_open_are_not_asked(asked: Asked, url: str) -> None:
    asked.set_model(url=url)
    with pytest.raises((ModelUnavailable, UsageError)):
        asked.ask("x")
    assert not asked.model.asked


def test_the_key_is_sent_and_never_told(asked: Asked) -> None:
    asked.set_model(api_key="sk-very-secret")
    asked.ask("NO_ANSWER")
    assert asked.model.headers[-1]["Authorization"] == "Bearer sk-very-secret"
    with pytest.raises(KbError) as failed:
        asked.ask("", "401")
    assert "sk-very-secret" not in str(failed.value)


def test_a_kb_whose_file_names_no_model_says_so(home: Installation, tmp_path: Path) -> None:
    kb = home.kb("acme/docs")
    spec = kb.file().yaml.split("\nanswers:")[0]
    home.apply(KbText(spec, "docs.yaml"))
    assert catalog.get_kb(home._db, kb.key)
    with pytest.raises(UsageError, match="names no model"):
        kb.answer(QUESTION, mode="generate")
