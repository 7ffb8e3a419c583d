"""Embedders shared by the tests of this folder: converted once a session, by the code under test."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from kb_pipeline.embed import open_embedder
from kb_pipeline.embed.protocol import Embedder

BUNDLED = ("all-MiniLM-L6-v2", "multilingual-e5-small")

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "A refresh costs what changed, not what exists: unchanged pages are neither parsed nor embedded again.",
    "Der Vertrag verlängert sich um zwölf Monate, wenn er nicht drei Monate vorher gekündigt wird.",
    "El robot respeta el archivo robots.txt y espera entre dos peticiones al mismo servidor.",
    "La bibliothèque ouvre à neuf heures, sauf le dimanche et les jours fériés.",
    "Жёлтый трамвай медленно шёл по заснеженной улице.",
    "知識ベースは毎晩自動的に更新されます。検索結果には出典が表示されます。",
    "数据库在凌晨两点备份，备份保留三十天。",
    "يتم نشر كل إصدار بالكامل أو لا يتم نشره على الإطلاق.",
    "ज्ञानकोष हर दो घंटे में ताज़ा किया जाता है।",
    "정책은 매년 1월에 검토되며 변경 사항은 공지됩니다.",
    "ﬁne ½ Ⅷ ① ｆｕｌｌ　ｗｉｄｔｈ e\u0301clair ﷺ",
    "def chunks(n):\n\tfor i in range(n):  # tabs, newlines\n\t\tyield i ** 2\r\n",
    "| limit | value |\n|---|---|\n| pages | 1,000 |\n| depth | 5 |",
    "👩‍👩‍👧‍👦 families and 🇩🇪 flags, zero\u200bwidth and soft\u00adhyphens",
    "Press Ctrl+C; then run `kb build acme/handbook --json | jq .status`. " * 8,
]


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("KB_TEST_MODELS")
    return Path(given) if given else tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def embedder(models_dir: Path) -> Callable[[str, str], Embedder]:
    return cache(lambda model, precision: open_embedder(model, precision, models_dir))
