"""Extracting files without a KB: one result for each, in order, whatever the others are."""

from __future__ import annotations

from pathlib import Path

from kb_pipeline.operations.extract import ExtractedFile, UnextractedFile, extract_files

PAGE = "<html><head><title>Plums</title></head><body><article><h1>Plums</h1><p>{}</p></article></body></html>"


def test_each_file_has_its_result_in_order(tmp_path: Path) -> None:
    page, missing, empty = (tmp_path / name for name in ("page.html", "missing.html", "empty.html"))
    page.write_text(PAGE.format("Plums are distilled into a clear brandy that is called slivovitz. " * 5))
    empty.write_text("<html><body></body></html>")
    rejected, absent, extracted = extract_files([empty, missing, page], None)
    assert isinstance(rejected, UnextractedFile)
    assert isinstance(absent, UnextractedFile)
    assert (absent.file, absent.error) == (missing, "unreadable")
    assert isinstance(extracted, ExtractedFile)
    assert (extracted.title, "slivovitz" in extracted.text) == ("Plums", True)
    assert list(extracted.as_json()) == ["file", "title", "language", "text", "markdown"]
    assert list(rejected.as_json()) == ["file", "error", "message"]
    assert rejected.as_json()["file"] == str(empty)
