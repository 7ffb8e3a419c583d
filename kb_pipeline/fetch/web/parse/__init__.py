"""Reads what pages and sitemaps say: links, directives, dates."""
