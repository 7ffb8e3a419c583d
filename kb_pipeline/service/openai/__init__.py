"""`/v1`: what OpenAI's clients call, over the KBs that a key may see."""
