"""LlamaIndex's OpenAIEmbedding."""

import json
import os

from llama_index.embeddings.openai import OpenAIEmbedding

TEXTS = ["Apples keep for months.", "Birnen reifen nach."]
embedding = OpenAIEmbedding(
    model_name="all-MiniLM-L6-v2", api_base=f"{os.environ['ADDRESS']}/v1", api_key=os.environ["KEY"]
)
print(
    json.dumps(
        {
            "documents": embedding.get_text_embedding_batch(TEXTS),
            "query": embedding.get_query_embedding(TEXTS[0]),
        }
    )
)
