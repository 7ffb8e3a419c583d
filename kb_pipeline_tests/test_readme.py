"""The README is short and true."""

from __future__ import annotations

import re

from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline_tests.docs_home import ROOT, blocks

README = (ROOT / "README.md").read_text("utf-8")


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120
    assert len(README.split()) <= 1000


def test_its_kb_file_is_valid() -> None:
    (block,) = blocks(README, "yaml")
    parse_spec(block, "README.md", {})


def test_make_has_every_target_that_is_named() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert named <= targets | {"sure"}, named - targets


def test_the_links_lead_to_files() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
