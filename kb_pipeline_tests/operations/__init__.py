"""Tests of kb_pipeline.operations."""
