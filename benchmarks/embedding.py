"""Compares passages a second of this project's embedder and of sentence-transformers' `encode`.

Run it with: python -m benchmarks.embedding [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kb_pipeline.embed import open_embedder
from kb_pipeline.embed.models import describe_model
from kb_pipeline.embed.tokenizer import open_tokenizer

FLOOR = 4.0
"""The least ratio to sentence-transformers' defaults (float32, batches of 32). A CPU that multiplies bfloat16 natively
reached 4.5 to 5; half a point is left for noise. On other CPUs expect about 2."""

MODEL = "all-MiniLM-L6-v2"
_TOKENS = 200
_TEXT = """
a refresh of the knowledge base costs what changed since the last published version and nothing more
because every stage compares hashes of its input with those it has already seen so that pages which
the server reports as unmodified are neither parsed nor split nor embedded again while readers keep
searching the version before
"""


def make_passages(count: int) -> list[str]:
    """Return distinct passages of nearly 200 tokens each."""
    tokenizer = open_tokenizer(MODEL)
    return [_passage(number, tokenizer.count) for number in range(count)]


def _passage(number: int, count: Callable[[str], int]) -> str:
    source = _TEXT.split()
    words = [f"{number}:"]
    words += [source[(number * 7 + step * (number % 5 + 1)) % len(source)] for step in range(_TOKENS)]
    while count(" ".join(words)) > _TOKENS:
        words.pop()
    return " ".join(words)


def measure(passages: int, rounds: int, models_dir: Path) -> dict[str, Any]:
    """Time both alternately, so that other load slows both; return medians."""
    from sentence_transformers import SentenceTransformer

    texts = make_passages(passages)
    theirs = SentenceTransformer(str(describe_model(MODEL).directory), device="cpu")
    ours = open_embedder(MODEL, "auto", models_dir)
    contenders: dict[str, Callable[[], Any]] = {
        "kb_pipeline": lambda: ours.embed_passages(texts),
        "sentence-transformers": lambda: theirs.encode(texts, batch_size=32, show_progress_bar=False),
    }
    for run in contenders.values():
        run()  # the first call also compiles kernels
    seconds = [{name: _seconds(run) for name, run in contenders.items()} for _ in range(rounds)]
    speeds = {name: passages / statistics.median(turn[name] for turn in seconds) for name in contenders}
    ratio = statistics.median(turn["sentence-transformers"] / turn["kb_pipeline"] for turn in seconds)
    return {
        "model": MODEL,
        "passages": passages,
        "tokens": _TOKENS,
        "per_second": speeds,
        "ratio": ratio,
        "floor": FLOOR,
    }


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> int:
    """Print the comparison; return 1 when the ratio is below the floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--passages", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as models_dir:
        result = measure(options.passages, options.rounds, Path(models_dir))
    if options.json:
        print(json.dumps(result))
    else:
        for name, speed in result["per_second"].items():
            print(f"{name:24}{speed:8.1f} passages/s")
        print(f"{'ratio':24}{result['ratio']:8.2f} (floor {FLOOR})")
    return 0 if result["ratio"] >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
