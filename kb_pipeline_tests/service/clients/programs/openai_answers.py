"""OpenAI's own client: chats and responses, whole and streamed."""

import json
import os

import openai

client = openai.OpenAI(base_url=f"{os.environ['ADDRESS']}/v1", api_key=os.environ["KEY"], max_retries=0)
QUESTION = "Where do apples keep for months?"
MODEL = "kb/acme.docs"
tool = {"type": "file_search", "vector_store_ids": ["vs_acme.docs"]}
messages = [{"role": "user", "content": QUESTION}]
chat = client.chat.completions.create(model=MODEL, messages=messages)
with client.chat.completions.stream(model=MODEL, messages=messages) as stream:
    chunks = [event.delta for event in stream if event.type == "content.delta"]
    streamed_chat = stream.get_final_completion().choices[0].message.content
response = client.responses.create(model=MODEL, input=QUESTION, tools=[tool], include=["file_search_call.results"])
with client.responses.stream(model=MODEL, input=QUESTION, tools=[tool]) as events:
    kinds = [event.type for event in events]
    streamed = events.get_final_response()
plain = [event.type for event in client.responses.create(model=MODEL, input=QUESTION, stream=True)]
try:
    client.responses.create(model="kb/globex.docs", input=QUESTION, stream=True)
except openai.NotFoundError as error:
    refused = error.code
print(
    json.dumps(
        {
            "chat": chat.choices[0].message.content,
            "citations": [each.url_citation.title for each in chat.choices[0].message.annotations],
            "tokens": chat.usage.total_tokens,
            "chunks": chunks,
            "streamed_chat": streamed_chat,
            "response": response.output_text,
            "results": [each.text for each in response.output[0].results],
            "files": [each.filename for each in response.output[1].content[0].annotations],
            "kinds": kinds,
            "plain": plain,
            "streamed": streamed.output_text,
            "verdict": response.kb["verdict"],
            "refused": refused,
        }
    )
)
