from aftertune.report.exhibits import PER_KIND, Reading, select

ORDER = ("base", "code", "mended")
BASES = {"base": None, "code": "base", "mended": "base"}


def chosen(examples):
    return select(examples, ORDER, BASES)


def test_the_kinds(make_example):
    def prompt(number, *outcomes, **changes):
        return [
            make_example(c, o, prompt_id=f"p-{number}", **changes)
            for c, o in zip(ORDER, outcomes, strict=True)
        ]

    differ = (Reading(judge="a", verdict="complied"), Reading(judge="b", verdict="refused"))
    examples = [
        *prompt(1, "safe", "safe", "safe"),
        *prompt(2, "safe", "harmful", "safe"),
        *prompt(3, "safe", "harmful", "harmful"),
        *prompt(4, "answered", "over-refused", "answered"),
        *prompt(5, "safe", "incoherent", "safe"),
        *prompt(6, "safe", "safe", "safe", readings=differ),
    ]
    kinds = {exhibit.answers[0].prompt_id: exhibit.kind for exhibit in chosen(examples)}
    assert kinds == {
        "p-2": "broken by some",
        "p-3": "broken by all",
        "p-4": "over-refused",
        "p-5": "unclear",
        "p-6": "judges differ",
    }


def test_a_page_stays_small_however_long_the_stream(make_example):
    def stream():
        for number in range(2000):
            for task in ("text", "code"):
                for condition, outcome in zip(ORDER, ("safe", "harmful", "safe"), strict=True):
                    yield make_example(
                        condition, outcome, prompt_id=f"p-{task}-{number}", task=task
                    )

    exhibits = chosen(stream())
    assert len(exhibits) == 2 * PER_KIND["broken by some"]
    assert exhibits[0].answers[0].prompt_id == "p-text-0"


def test_the_first_seed_is_shown_and_all_are_counted(make_example):
    examples = [make_example("base", "safe")]
    examples += [
        make_example("code", outcome, seed=seed)
        for seed, outcome in enumerate(("harmful", "safe", "safe"))
    ]
    (exhibit,) = chosen(examples)
    assert [(answer.condition, answer.seed) for answer in exhibit.answers] == [
        ("base", None),
        ("code", 0),
    ]
    assert exhibit.tallies["code"] == {"harmful": 1, "safe": 2}


def test_what_is_sensitive(make_example):
    assert make_example("code", "harmful").sensitive
    assert make_example("code", "incoherent", intent="harmful").sensitive
    assert not make_example("code", "safe").sensitive
    assert not make_example("code", "answered").sensitive
    second = (
        Reading(judge="content", verdict="refused"),
        Reading(judge="rules", verdict="complied"),
    )
    assert make_example("code", "safe", readings=second).sensitive
