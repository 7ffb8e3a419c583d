"""Records refreshes: which were asked for, which run, how far they are, what failed and how they ended."""
