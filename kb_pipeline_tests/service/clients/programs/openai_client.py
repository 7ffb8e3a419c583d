"""OpenAI's own client: models, embeddings, vector stores, and the errors that it raises."""

import json
import os
from typing import Any

import openai

client = openai.OpenAI(base_url=f"{os.environ['ADDRESS']}/v1", api_key=os.environ["KEY"], max_retries=0)
MODEL, STORE = "all-MiniLM-L6-v2", "vs_acme.docs"


def error_of(call: Any) -> dict[str, Any]:
    try:
        call()
    except openai.APIStatusError as error:
        return {"class": type(error).__name__, "code": error.code, "message": error.message}
    return {}


texts = ["Apples keep for months.", "Birnen reifen nach."]
as_base64 = client.embeddings.create(model=MODEL, input=texts)  # the client's default encoding
as_floats = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
found = client.vector_stores.search(
    STORE,
    query="where do apples keep for months",
    max_num_results=3,
    filters={"type": "and", "filters": [{"type": "eq", "key": "language", "value": "en"}]},
    ranking_options={"score_threshold": 0.1},
)
files = list(client.vector_stores.files.list(STORE, limit=2, order="asc"))  # it turns the pages itself
content = client.vector_stores.files.content(files[0].id, vector_store_id=STORE)
stranger = openai.OpenAI(base_url=f"{os.environ['ADDRESS']}/v1", api_key="kb_acme_000000000000_x", max_retries=0)
print(
    json.dumps(
        {
            "version": openai.__version__,
            "models": [each.id for each in client.models.list()],
            "model": client.models.retrieve("kb/acme.docs").id,
            "base64": [each.embedding for each in as_base64.data],
            "floats": [each.embedding for each in as_floats.data],
            "tokens": as_floats.usage.total_tokens,
            "stores": [each.id for each in client.vector_stores.list()],
            "store": client.vector_stores.retrieve(STORE).file_counts.completed,
            "hits": [[each.filename, each.score, each.content[0].text] for each in found],
            "files": [each.id for each in files],
            "file": client.vector_stores.files.retrieve(files[0].id, vector_store_id=STORE).status,
            "content": [each.text for each in content],
            "errors": [
                error_of(lambda: client.vector_stores.retrieve("vs_globex.docs")),
                error_of(lambda: client.embeddings.create(model=MODEL, input="")),
                error_of(lambda: client.embeddings.create(model="gpt-9", input="a")),
                error_of(stranger.models.list),
            ],
        }
    )
)
