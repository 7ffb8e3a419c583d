"""The threshold below which a version refuses to answer: made from its own chunks, the same at every build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kb_pipeline.answers.threshold import CALIBRATED_CHUNKS, SCORE_NAME, refusal_threshold
from kb_pipeline.errors import InvalidVector
from kb_pipeline.model import digest
from kb_pipeline.publish.answer_threshold import SAMPLE, make_questions
from kb_pipeline.publish.integrity_gates import ChunkText
from kb_pipeline.store.manifest import Manifest
from kb_pipeline_tests.index.fruit import ByHand, Fruit


def trees(count: int) -> dict[str, tuple[str, str]]:
    return {
        f"/{n}": ("en", f"Tree number {n} bears plentiful pears of sort {digest(str(n))} in every warm summer.")
        for n in range(count)
    }


@pytest.fixture
def kb(tmp_path: Path) -> Fruit:
    return Fruit(tmp_path)


def test_a_threshold_lies_between_what_is_known_and_what_was_taken_out(kb: Fruit) -> None:
    kb.put(trees(12))
    scores = kb.candidate().manifest.scores
    assert scores[CALIBRATED_CHUNKS] == 12
    assert 0 < scores[SCORE_NAME] < 1.3
    assert kb.candidate().manifest.scores == scores, "the same rows give the same threshold"


def test_a_question_is_made_of_the_longest_words_of_a_sentence_of_few_chunks(kb: Fruit) -> None:
    kb.put(trees(SAMPLE + 8))
    questions = make_questions(kb.reader(kb.candidate().manifest))
    assert len(questions) == SAMPLE
    for each in questions:
        words = each.text.split()
        assert len(words) == 5
        assert {"number", "plentiful"} <= set(words)


def test_text_without_spaces_and_without_sentences_is_taken_as_it_is(kb: Fruit) -> None:
    kb.put(
        {
            "/tenki": ("ja", "明日の天気は晴れで、気温は二十五度まで上がるでしょう。傘は要りません。"),
            "/empty": ("en", "Ok."),
        }
    )
    questions = make_questions(kb.reader(kb.candidate().manifest))
    assert len(questions) == 1
    assert all(len(word) <= 4 for word in questions[0].text.split())


def test_a_version_that_is_too_small_has_none_and_goes_by_the_default(kb: Fruit) -> None:
    kb.put(trees(3))
    manifest = kb.candidate().manifest
    assert SCORE_NAME not in manifest.scores
    assert refusal_threshold(kb.reader(manifest)) == 0


def test_a_version_much_like_the_live_one_takes_its_threshold_over(kb: Fruit) -> None:
    kb.put(trees(20))
    live = kb.candidate().manifest
    kb.put(trees(21))
    assert _threshold(kb.candidate(live).manifest) == (live.scores[SCORE_NAME], 20)
    kb.put(trees(40))
    assert _threshold(kb.candidate(live).manifest)[1] == 40, "one that grew is calibrated anew"


def test_a_model_that_fails_at_it_keeps_no_version_from_being_published(
    kb: Fruit, monkeypatch: pytest.MonkeyPatch
) -> None:
    kb.put(trees(12))
    embed = ByHand.embed_chunks

    def fail(self: ByHand, chunks: Sequence[ChunkText]) -> np.ndarray:
        if any(not chunk.title for chunk in chunks):
            raise InvalidVector("not finite")
        return embed(self, chunks)

    monkeypatch.setattr(ByHand, "embed_chunks", fail)
    candidate = kb.candidate()
    assert candidate.status == "candidate"
    assert SCORE_NAME not in candidate.manifest.scores


def _threshold(manifest: Manifest) -> tuple[float, float]:
    return manifest.scores[SCORE_NAME], manifest.scores[CALIBRATED_CHUNKS]
