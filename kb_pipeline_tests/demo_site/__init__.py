"""Tests of the sample site."""
