from faithful_server import FAULTS, KEY, Server, answer_of

from aftertune.core.records import Decoding, GenerateJob, Message, Response

DECODING = Decoding(max_new_tokens=20)


def jobs_for(model, count, decoding=DECODING, sample=0):
    asked = [
        (Message(role="system", content="Be brief."), Message(role="user", content=f"question {i}"))
        for i in range(count)
    ]
    keys = model.keys(asked, decoding, sample)
    return [
        GenerateJob(key=key, messages=messages, decoding=decoding, sample=sample)
        for key, messages in zip(keys, asked, strict=True)
    ]


def test_two_thousand_prompts_are_all_answered_while_a_fifth_of_the_calls_fails(endpoints):
    with Server(faults=FAULTS, share=0.2, seed=3) as server:
        model = endpoints.open(address_of(f"{server.url}#m"), "m")
        jobs = jobs_for(model, 2000)
        answers = dict(model.generate(jobs))
    assert set(answers) == {job.key for job in jobs}
    assert all(isinstance(answer, Response) for answer in answers.values())
    texts = {
        job.key: answer_of(
            {"messages": [{"role": m.role, "content": m.content} for m in job.messages], "temperature": 0.0}
        )
        for job in jobs
    }
    assert {key: answer.text for key, answer in answers.items()} == texts
    assert set(server.injected) == set(FAULTS)
    assert max(server.answered.values()) == 1, "a call was made again after its answer was there"
    assert KEY not in repr(list(answers.values()))
