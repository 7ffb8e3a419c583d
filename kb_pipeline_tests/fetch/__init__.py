"""Tests of kb_pipeline.fetch."""
