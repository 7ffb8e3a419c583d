"""Tests of kb_pipeline.answers."""
