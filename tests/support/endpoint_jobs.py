"""Jobs for tests of endpoints, and how to have them done."""

from aftertune.core.records import Decoding, GenerateJob, Message
from aftertune.models.endpoint.providers import address_of

DECODING = Decoding(max_new_tokens=20)


def open_at(endpoints, server, model="m"):
    return endpoints.open(address_of(f"{server.url}#{model}"), model)


def conversation(text):
    return (Message(role="system", content="Be brief."), Message(role="user", content=text))


def jobs_for(model, texts, decoding=DECODING, sample=0):
    asked = [conversation(text) for text in texts]
    keys = model.keys(asked, decoding, sample)
    return [
        GenerateJob(key=key, messages=messages, decoding=decoding, sample=sample)
        for key, messages in zip(keys, asked, strict=True)
    ]


def ask(model, texts, decoding=DECODING, sample=0):
    """Return the answers in the order of the texts."""
    jobs = jobs_for(model, texts, decoding, sample)
    answers = dict(model.generate(jobs))
    return [answers.get(job.key) for job in jobs]


def user_text(body):
    return body["messages"][-1]["content"]
