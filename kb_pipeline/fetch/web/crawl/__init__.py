"""Crawls a site: which URL next, what became of it, and when to stop."""
