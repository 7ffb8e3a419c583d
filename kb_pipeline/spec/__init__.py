"""Validates what people write: KB files, plan files and the variables in them."""
