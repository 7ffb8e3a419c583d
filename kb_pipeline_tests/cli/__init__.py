"""Tests of kb_pipeline.cli."""
