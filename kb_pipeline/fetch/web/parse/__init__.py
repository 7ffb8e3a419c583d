"""Parses pages and sitemaps: links, directives, dates."""
