"""Tests of kb_pipeline.service.openai."""
