"""Tests of kb_pipeline.control.runs."""
