"""LangChain's OpenAIEmbeddings: with texts, and with the token ids that it sends by default."""

import json
import os

from langchain_openai import OpenAIEmbeddings

TEXTS = ["Apples keep for months.", "Birnen reifen nach."]
embeddings = OpenAIEmbeddings(
    model="all-MiniLM-L6-v2",
    base_url=f"{os.environ['ADDRESS']}/v1",
    api_key=os.environ["KEY"],
    check_embedding_ctx_length=False,
)
ids = json.loads(os.environ["TOKENS"])  # made by the test: the client would download its tokenizer
by_ids = embeddings.client.create(model="all-MiniLM-L6-v2", input=ids)
print(
    json.dumps(
        {
            "documents": embeddings.embed_documents(TEXTS),
            "query": embeddings.embed_query(TEXTS[0]),
            "ids": [each.embedding for each in by_ids.data],
        }
    )
)
