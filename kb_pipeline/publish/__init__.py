"""Builds the next version unseen and proves it before anybody can see it."""
