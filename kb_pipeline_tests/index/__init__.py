"""Tests of kb_pipeline.index."""
