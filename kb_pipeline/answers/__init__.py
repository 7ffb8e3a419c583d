"""Answers questions by a version's own sentences, or by a model whose citations are checked against them."""
