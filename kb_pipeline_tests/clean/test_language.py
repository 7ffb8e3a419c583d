"""Languages are told alike in every process, and only when two opinions agree."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kb_pipeline.clean.language import detect_language

TEXTS = {
    "en": "The ship left the harbour before dawn, and nobody on the quay saw in which direction it had gone. ",
    "de": "Das Schiff verließ den Hafen vor dem Morgengrauen, und niemand am Kai sah, wohin es gefahren war. ",
    "fr": "Le navire a quitté le port avant l'aube, et personne sur le quai n'a vu dans quelle direction il allait. ",
    "ru": "Корабль покинул гавань ещё до рассвета, и никто на причале не видел, куда он направился. ",
    "ja": "船は夜明け前に港を出た。そして埠頭にいた誰も、それがどの方向へ行ったのかを見ていなかった。",
    "zh": "这艘船在黎明前离开了港口，码头上没有人看到它往哪个方向驶去，大家都觉得很奇怪。",
}


@pytest.mark.parametrize("language", TEXTS)
def test_long_text_is_detected(language: str) -> None:
    assert detect_language(TEXTS[language] * 8) == language


def test_short_text_never_decides_alone() -> None:
    assert detect_language(TEXTS["de"]) == "und"
    assert detect_language(TEXTS["de"], "de-AT") == "de"
    assert detect_language(TEXTS["de"], "fr") == "und"


def test_declared_language_does_not_outvote_the_text() -> None:
    assert detect_language(TEXTS["fr"] * 5, "en") == "fr"


def test_a_page_that_is_half_translated_is_of_no_language() -> None:
    half = [TEXTS["fr"] * 8, TEXTS["en"] * 8] * 6
    assert detect_language("\n\n".join(half)) == "und"
    assert detect_language("\n\n".join([TEXTS["de"] * 30, TEXTS["en"] * 8, TEXTS["de"] * 20])) == "de"


def test_code_does_not_count() -> None:
    code = "```\n" + "for item in the list of things: print the item and then return\n" * 50 + "```\n"
    assert detect_language(code + TEXTS["de"] * 4) == "de"
    assert detect_language(code) == "und"


def test_nothing_but_signs_has_no_language() -> None:
    assert detect_language("1234 + 5678 = " * 50) == "und"


def test_answer_is_the_same_in_every_process() -> None:
    program = (
        "from kb_pipeline.clean.language import detect_language as d\n"
        "print(d('Dette er en blanding af dansk og norsk tekst som er svær at skille. ' * 5, 'da'))"
    )
    answers = {subprocess.check_output([sys.executable, "-c", program], text=True) for _ in range(3)}
    assert len(answers) == 1
