"""Tests of kb_pipeline.control.flags."""
