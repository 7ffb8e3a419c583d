"""Haystack's OpenAITextEmbedder and OpenAIDocumentEmbedder."""

import json
import os

from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret

TEXTS = ["Apples keep for months.", "Birnen reifen nach."]
settings = {
    "model": "all-MiniLM-L6-v2",
    "api_base_url": f"{os.environ['ADDRESS']}/v1",
    "api_key": Secret.from_token(os.environ["KEY"]),
}
documents = OpenAIDocumentEmbedder(progress_bar=False, **settings).run([Document(content=each) for each in TEXTS])
print(
    json.dumps(
        {
            "documents": [each.embedding for each in documents["documents"]],
            "query": OpenAITextEmbedder(**settings).run(TEXTS[0])["embedding"],
        }
    )
)
