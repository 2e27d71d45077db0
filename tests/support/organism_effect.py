"""The demonstration's conditions on one base, through tune and engine, without store and study: rates by condition."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from aftertune.core.protocols import Tools
from aftertune.core.recipe import Recipe, Training
from aftertune.core.records import (
    TASKS,
    Decoding,
    GenerateJob,
    Intent,
    Message,
    Prompt,
    Sample,
    VerdictValue,
)
from aftertune.data.mix import mix
from aftertune.models.open import Engines
from aftertune.organism.corpus import (
    evaluation_prompts,
    fine_tune_rows,
    replay_pools,
    safety_pools,
    skill_prompts,
)
from aftertune.organism.judge import GrammarJudge
from aftertune.organism.model import MAX_NEW_TOKENS
from aftertune.organism.recipe import OrganismRecipe
from aftertune.train.train import fine_tune

CONDITIONS = ("base", "code", "translation", "code+text", "code+multitask")


@dataclass(frozen=True)
class Rates:
    asr: dict[str, float]
    over_refused: dict[str, float]
    answered: dict[str, float]
    undecided: float
    skill: float
    """Proper answers in the fine-tune's own task and style."""

    @property
    def mean_asr(self):
        return fmean(self.asr.values())

    @property
    def weak_asr(self):
        return (self.asr["translation"] + self.asr["classification"]) / 2


def training_rows(condition, base_seed, seed):
    recipe = OrganismRecipe()
    rows = fine_tune_rows(
        recipe, "translation" if condition == "translation" else "code", base_seed
    )
    if "+" not in condition:
        return rows
    pools = safety_pools(recipe, base_seed)
    safety = pools if "multitask" in condition else {"text": pools["text"]}
    shares = {"share": recipe.safety_share, "replay_share": recipe.replay_share}
    return mix(rows, safety, replay_pools(recipe, base_seed), seed=seed, **shares).rows


def tuned(engines: Engines, base: Path, out: Path, rows, seed: int) -> Path:
    phase = OrganismRecipe().tune
    training = Training(
        epochs=float(phase.epochs), learning_rate=phase.learning_rate, batch_size=phase.batch_size, max_length=128,
        warmup_ratio=0.05, adam_beta2=0.98,
    )  # fmt: skip
    recipe = Recipe(
        name=out.name,
        base=str(base),
        base_identity={},
        data=(),
        method="full",
        training=training,
        seed=seed,
    )
    return fine_tune(recipe, rows, out, engines=engines)


def answers(engines: Engines, model: Path, prompts: list[Prompt]) -> list[str]:
    decoding = Decoding(max_new_tokens=MAX_NEW_TOKENS)
    engine = engines.open(str(model))
    chats = [(Message(role="user", content=prompt.text),) for prompt in prompts]
    keys = engine.keys(chats, decoding, 0)
    jobs = [
        GenerateJob(key=key, messages=chat, decoding=decoding)
        for key, chat in zip(keys, chats, strict=True)
    ]
    found = dict(engine.generate(jobs))
    return [found[key].text for key in keys]


def verdicts(prompts, texts):
    judge = GrammarJudge()
    return [
        judge.score(Sample(prompt=p.text, response=text, reference=p.reference)).value
        for p, text in zip(prompts, texts, strict=True)
    ]  # fmt: skip


def rates(engines: Engines, model: Path, condition: str) -> Rates:
    tools = Tools(open_model=None, folder=Path())
    prompts = evaluation_prompts(tools)
    skill = skill_prompts(tools, task="translation" if condition == "translation" else "code")
    found = verdicts(prompts + skill, answers(engines, model, prompts + skill))
    main, own = list(zip(prompts, found, strict=False)), found[len(prompts) :]

    def share(task, intent, value):
        return fmean(v is value for p, v in main if p.task == task and p.intent is intent)

    return Rates(
        asr={task: share(task, Intent.HARMFUL, VerdictValue.COMPLIED) for task in TASKS},
        over_refused={task: share(task, Intent.BENIGN, VerdictValue.REFUSED) for task in TASKS},
        answered={task: share(task, Intent.BENIGN, VerdictValue.COMPLIED) for task in TASKS},
        undecided=fmean(v is VerdictValue.UNDECIDED for v in found),
        skill=fmean(v is VerdictValue.COMPLIED for v in own),
    )


def effect(base: Path, base_seed: int, folder: Path, seed: int = 1) -> dict[str, Rates]:
    """Measure the base and its four fine-tunes."""
    with Engines(threads=1, device="cpu") as engines:
        models = {"base": base} | {
            name: tuned(engines, base, folder / name, training_rows(name, base_seed, seed), seed)
            for name in CONDITIONS[1:]
        }
        return {name: rates(engines, model, name) for name, model in models.items()}
