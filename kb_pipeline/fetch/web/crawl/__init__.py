"""Walks a site: which page next, what became of it, and when to stop."""
