"""Tests of kb_pipeline.control.kbs."""
