"""Which sentences are compared with a question, and how they are ranked."""

from __future__ import annotations

import numpy as np

from kb_pipeline.answers.rank import CANDIDATES, choose_candidates
from kb_pipeline.index.search import Hit

FILLER = "Nothing of it is told here. The valley is green. Rivers run. Hills rise. Winds blow. Birds sing."


def hit(text: str, number: int = 1) -> Hit:
    return Hit(number, 1.0, f"/{number}", "Page", (), text, "en", f"d{number}", f"c{number}", 100, 100 + len(text))


def test_the_sentence_with_the_rare_words_of_the_question_is_compared_wherever_it_stands() -> None:
    passages = [hit(FILLER, 1), hit(f"{FILLER} The quince was planted in 1904.", 2)]
    found = choose_candidates("When was the quince planted?", passages)
    assert found.sentences[0].sentence.text == "The quince was planted in 1904."
    assert found.sentences[0].passage == 1
    assert len(found.sentences) == CANDIDATES


def test_meaning_decides_between_sentences_with_the_same_words() -> None:
    found = choose_candidates("What do pears do?", [hit("Pears ripen. Pears rot.")])
    near, far = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    vectors = np.stack([near if text == "Pears rot." else far for text in found.texts])
    assert [each.sentence.text for each in found.ranked(near, vectors)] == ["Pears rot.", "Pears ripen."]


def test_a_sentence_that_stands_in_two_overlapping_chunks_is_compared_once() -> None:
    found = choose_candidates("Do pears ripen?", [hit("Pears ripen.", 1), hit("Pears ripen. They fall.", 2)])
    assert found.texts == ["Pears ripen.", "They fall."]
    assert found.sentences[0].passage == 0


def test_a_heading_answers_only_where_there_is_nothing_else() -> None:
    assert choose_candidates("pears", [hit("# Pears\n\nThey ripen.")]).texts == ["They ripen."]
    assert choose_candidates("pears", [hit("# Pears")]).texts == ["Pears"]


def test_nothing_found_has_no_candidates() -> None:
    assert choose_candidates("pears", []).texts == []
