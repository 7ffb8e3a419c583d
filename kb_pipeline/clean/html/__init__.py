"""Reads HTML: which parts of a page are its article, and their Markdown."""
