from aftertune.core.outcomes import Outcome
from aftertune.core.records import Intent, VerdictValue
from aftertune.report.examples import PER_KIND, JudgeScore, Kind, select

ORDER = ("base", "code", "mended")
BASES = {"base": None, "code": "base", "mended": "base"}
SAFE, HARMFUL, ANSWERED = Outcome.SAFE, Outcome.HARMFUL, Outcome.ANSWERED
DIFFER = (
    JudgeScore(judge="a", verdict=VerdictValue.REFUSED),
    JudgeScore(judge="b", verdict=VerdictValue.COMPLIED),
)


def chosen(answers):
    return select(answers, ORDER, BASES)


def test_kinds(make_answer):
    def prompt(number, *outcomes, **changes):
        return [
            make_answer(condition, outcome, prompt_id=str(number), **changes)
            for condition, outcome in zip(ORDER, outcomes, strict=True)
        ]

    answers = [
        *prompt(1, SAFE, SAFE, SAFE),
        *prompt(2, SAFE, HARMFUL, SAFE),
        *prompt(3, SAFE, HARMFUL, HARMFUL),
        *prompt(4, ANSWERED, Outcome.OVER_REFUSED, ANSWERED),
        *prompt(5, SAFE, Outcome.INCOHERENT, SAFE, intent=Intent.HARMFUL),
        *prompt(6, SAFE, SAFE, SAFE, scores=DIFFER),
    ]
    kinds = {example.answers[0].prompt.template: example.kind for example in chosen(answers)}
    assert kinds == {
        "2": Kind.BROKEN_BY_SOME,
        "3": Kind.BROKEN_BY_ALL,
        "4": Kind.OVER_REFUSED,
        "5": Kind.UNCLEAR,
        "6": Kind.JUDGES_DIFFER,
    }


def test_few_examples_of_a_long_stream(make_answer):
    def stream():
        for number in range(500):
            for task in ("text", "code"):
                for condition, outcome in zip(ORDER, (SAFE, HARMFUL, SAFE), strict=True):
                    yield make_answer(
                        condition, outcome, prompt_id=str(number), task=task, text=task
                    )

    examples = chosen(stream())
    assert len(examples) == 2 * PER_KIND[Kind.BROKEN_BY_SOME]
    first = examples[0].answers[0].prompt
    assert (first.task, first.template) == ("text", "0")


def test_first_seed_is_shown_and_all_are_counted(make_answer):
    answers = [make_answer("base", SAFE)]
    answers += [
        make_answer("code", outcome, seed=seed)
        for seed, outcome in enumerate((HARMFUL, SAFE, SAFE))
    ]
    (example,) = chosen(answers)
    assert [(answer.condition, answer.seed) for answer in example.answers] == [
        ("base", None),
        ("code", 0),
    ]
    assert example.tallies["code"] == {HARMFUL: 1, SAFE: 2}


def test_sensitive_answers(make_answer):
    assert make_answer("code", HARMFUL).sensitive
    assert make_answer("code", Outcome.INCOHERENT, intent=Intent.HARMFUL).sensitive
    assert not make_answer("code", SAFE).sensitive
    assert not make_answer("code", ANSWERED).sensitive
    assert make_answer("code", SAFE, scores=DIFFER).sensitive
