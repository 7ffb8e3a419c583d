"""Tests of kb_pipeline.service.mcp."""
