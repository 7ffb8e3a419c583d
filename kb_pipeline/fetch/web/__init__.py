"""Crawls a web site politely in a child process and keeps every page's bytes or the reason there are none."""
