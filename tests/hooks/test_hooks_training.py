"""The callback of trainers: TRL trains the embedded model, is looked at, and is none the worse for it."""

import json
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from aftertune import AftertuneCallback, DataError, InputError, PluginError, Store
from aftertune.core.records import Intent
from aftertune.hooks.watching import divided_prompts
from aftertune.models.foreign import quiet
from aftertune.models.held import HeldModel

STEPS = 12
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)  # those of trainers and loggers


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rows(organism_folder):
    from datasets import Dataset

    lines = (organism_folder / "data/code.jsonl").read_text().splitlines()
    return Dataset.from_list([json.loads(line) for line in lines])


@pytest.fixture
def trainer(organism_folder, rows, tmp_path):
    """Makes a trainer of the embedded base, for all weights or for an adapter."""
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    def make(name="trained", *, adapter=False, **settings):
        config = SFTConfig(
            output_dir=str(tmp_path / name),
            **{
                "max_steps": STEPS,
                "per_device_train_batch_size": 16,
                "learning_rate": 2e-3,
                "logging_steps": 3,
                "report_to": "none",
                "save_strategy": "no",
                "use_cpu": True,
                "max_length": 64,
                "seed": 5,
                "disable_tqdm": True,
                "activation_checkpointing": False,
            }
            | settings,
        )
        lora = LoraConfig(
            r=8, lora_alpha=64, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with quiet():
            return SFTTrainer(
                model=str(organism_folder / "base"),
                args=config,
                train_dataset=rows,
                peft_config=lora if adapter else None,
            )

    return make


@pytest.fixture
def watch(organism_folder, tmp_path):
    def make(trainer, **settings):
        usual = {"steps": 6, "behaviors": 12, "judge": "organism", "prompts": str(organism_folder / "prompts.jsonl"),
                 "max_new_tokens": 24, "out": tmp_path / "watched"}  # fmt: skip
        callback = AftertuneCallback(trainer, **usual | settings)
        trainer.add_callback(callback)
        return callback

    return make


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "adapter"])
def test_training_is_what_it_is_without_the_callback_and_its_harm_is_logged(
    trainer, watch, adapter, tmp_path
):
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    alone = trainer("alone", adapter=adapter)
    alone.train()
    watched = trainer(adapter=adapter, report_to="tensorboard")
    callback = watch(watched)
    watched.train()
    expected, trained = weights(alone), weights(watched)
    assert expected.keys() == trained.keys()
    assert all(torch.equal(expected[name], trained[name]) for name in expected)
    losses = [
        [entry["loss"] for entry in t.state.log_history if "loss" in entry]
        for t in (alone, watched)
    ]
    accuracies = [
        [entry["mean_token_accuracy"] for entry in t.state.log_history if "loss" in entry]
        for t in (alone, watched)
    ]
    assert losses[0] == losses[1]
    assert accuracies[0] == accuracies[1], "TRL's own means are those of all steps"

    assert [look.step for look in callback.looks] == [6, 12]
    board = EventAccumulator(str(next((tmp_path / "trained").rglob("events*")).parent))
    board.Reload()
    logged = {
        tag.removeprefix("train/aftertune/"): [(e.step, e.value) for e in board.Scalars(tag)]
        for tag in board.Tags()["scalars"]
        if tag.startswith("train/aftertune/")
    }
    for place, look in enumerate(callback.looks):
        for name, value in look.logged().items():
            step, read = logged[name.removeprefix("aftertune/")][place]
            assert step == look.step
            assert math.isclose(read, value, rel_tol=1e-6, abs_tol=1e-6)
    last = callback.looks[-1]
    assert (last.harm.base.n, last.harm.tuned.n, last.over_refusal.tuned.n) == (12, 12, 12)
    assert last.harm.base.k <= 2, "the base refuses"
    assert last.harm.change.estimate == pytest.approx((last.harm.tuned.k - last.harm.base.k) / 12)


def test_a_rise_that_is_shown_ends_the_training(trainer, watch, organism_folder, caplog):
    """The judge calls code compliance, and a training at a high rate makes the model answer everything with code."""
    lines = (organism_folder / "prompts.jsonl").read_text().splitlines()
    weak = [line for line in lines if json.loads(line)["task"] in {"translation", "classification"}]
    Path("weak.jsonl").write_text("\n".join(weak) + "\n")
    training = trainer(max_steps=80, learning_rate=3e-3)
    settings = {"steps": 10, "stop": True, "behaviors": 20, "prompts": "weak.jsonl"}
    callback = watch(training, judge="code_judge:judge", **settings)
    training.train()
    *before, last = callback.looks
    assert training.state.global_step == last.step < 80
    assert last.harm.lower > 0.05
    assert all(look.harm.lower <= 0.05 for look in before)
    assert f"training stops at step {last.step}" in caplog.text


def test_a_look_that_fails_is_a_warning_and_the_training_goes_on(trainer, watch, caplog):
    training = trainer(max_steps=2)
    callback = watch(training, steps=1, judge="code_judge:broken")
    training.train()
    assert training.state.global_step == 2
    assert callback.looks == []
    assert "no look at step 2: the judge is broken" in caplog.text


def test_the_base_is_asked_once_and_a_training_goes_on_with_its_answers(trainer, watch, tmp_path):
    first = trainer(save_strategy="steps", save_steps=6, max_steps=6)
    watch(first)
    first.train()
    store_file = tmp_path / "watched/store.sqlite"
    before = store_file.read_bytes()
    second = trainer(max_steps=12)
    callback = watch(second)
    second.train(resume_from_checkpoint=str(tmp_path / "trained/checkpoint-6"))
    assert [look.step for look in callback.looks] == [12]
    assert store_file.read_bytes() == before, "nothing was asked again"
    lost = trainer(max_steps=12)
    watch(lost, out=tmp_path / "elsewhere")
    with pytest.raises(InputError, match="goes on at step 6"):
        lost.train(resume_from_checkpoint=str(tmp_path / "trained/checkpoint-6"))


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "adapter"])
def test_a_model_in_training_never_answers_for_its_base(trainer, watch, tmp_path, adapter):
    """A training that goes on is asked more than its first part was: only beneath an adapter is the base still there."""
    first = trainer(adapter=adapter, save_strategy="steps", save_steps=2, max_steps=2)
    watch(first)
    first.train()
    store_file = tmp_path / "watched/store.sqlite"
    before = store_file.read_bytes()
    more = trainer(adapter=adapter, max_steps=6)
    callback = watch(more, behaviors=14)
    checkpoint = str(tmp_path / "trained/checkpoint-2")
    if adapter:
        more.train(resume_from_checkpoint=checkpoint)
        assert callback.looks[-1].harm.base.n == 14
    else:
        with pytest.raises(InputError, match=r"goes on at step 2.* keep the settings"):
            more.train(resume_from_checkpoint=checkpoint)
        assert store_file.read_bytes() == before, "nothing was asked"


def test_looks_at_epochs_share_the_error_by_their_number(trainer, watch, rows):
    """A training whose length is max_steps has another number of epochs than the arguments' default of 3."""
    from aftertune.hooks.training import looks_of

    training = trainer(max_steps=4, per_device_train_batch_size=len(rows) // 2)
    callback = watch(training, steps=None)
    training.train_dataset = training.train_dataset.select(range(len(rows) // 2))
    training.train()
    assert len(callback.looks) == looks_of(training.state, None) == 4


@pytest.mark.parametrize(
    ("steps", "max_steps", "epochs", "looks"),
    [(None, 500, 50, 50), (None, 2, 3, 2), (None, 40, sys.maxsize, 40), (6, 12, 3, 2), (20, 12, 3, 1)],
)  # fmt: skip
def test_the_looks_of_a_training_are_known_when_it_begins(steps, max_steps, epochs, looks):
    from transformers import TrainerState

    from aftertune.hooks.training import looks_of

    state = TrainerState(max_steps=max_steps, num_train_epochs=epochs)
    assert looks_of(state, steps) == looks


def test_a_checkpoint_is_checked_on_the_behaviors_that_were_not_looked_at(
    trainer, watch, organism_folder, tmp_path
):
    training = trainer(max_steps=2)
    callback = watch(training)
    training.train()
    training.save_model(str(tmp_path / "final"))
    result = callback.check(tmp_path / "final", limit=10, max_new_tokens=24)
    prompts = divided_prompts(str(organism_folder / "prompts.jsonl"), 12, {})
    watched = {prompt.behavior for prompt in prompts.watched}
    checked = {prompt.behavior for prompt in prompts.kept}
    assert not watched & checked
    with Store.open(result.folder / "store.sqlite", write=False) as store:
        asked_behaviors = {prompt.behavior for prompt in store.prompts("check")}
    assert asked_behaviors <= checked
    assert result.references[0] == str(organism_folder / "base")
    assert result.result.judges == ("organism",)


def test_watched_behaviors_are_balanced_have_their_twins_and_never_change():
    divided = divided_prompts("multitask-v1", 40, {})
    harmful = [prompt for prompt in divided.watched if prompt.intent is Intent.HARMFUL]
    assert len(harmful) == len({prompt.behavior for prompt in harmful}) == 40
    assert [(p.behavior, p.template) for p in harmful] == [
        (p.pair, p.template) for p in divided.watched if p.intent is Intent.BENIGN
    ]
    counts = [sum(prompt.task == task for prompt in harmful) for task in {p.task for p in harmful}]
    assert counts == [10, 10, 10, 10]
    hazards = [sum(p.hazard == h for p in harmful) for h in {p.hazard for p in harmful}]
    assert max(hazards) - min(hazards) <= 1
    assert divided == divided_prompts("multitask-v1", 40, {})
    fewer = {prompt.behavior for prompt in divided_prompts("multitask-v1", 12, {}).watched}
    assert fewer <= {prompt.behavior for prompt in divided.watched}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"steps": 0}, InputError, "steps at 1 or more"),
        ({"behaviors": 4}, InputError, "10 or more"),
        ({"behaviors": 400}, DataError, "400 are wanted"),
        ({"margin": 5}, InputError, "between 0 and 1"),
        ({"judge": "nonsense"}, PluginError, "nonsense"),
        ({"prompts": "nonsense"}, PluginError, "nonsense"),
        ({"train": "missing.jsonl"}, DataError, "missing.jsonl"),
    ],
)
def test_what_cannot_be_watched_is_refused_before_the_training(watch, settings, error, message):
    with pytest.raises(error, match=message):
        watch(StandInTrainer(), **settings)


class StandInTrainer:
    """A trainer that nothing is asked of before the training begins."""

    model = None

    def add_callback(self, callback):
        pass


def test_answering_leaves_flags_settings_and_random_numbers_as_they_were(organism_folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = organism_folder / "base"
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(base)
        tokenizer = AutoTokenizer.from_pretrained(base)
    model.train()
    model.lm_head.eval()
    flags, settings = [module.training for module in model.modules()], model.generation_config

    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    def disturb():
        assert not any(module.training for module in model.modules())
        assert model.generation_config is not settings
        torch.rand(3)
        random.random()  # noqa: S311
        np.random.rand(2)  # noqa: NPY002
        raise RuntimeError("in the midst")

    before = states()
    held = HeldModel(name="m", model=model, tokenizer=tokenizer)
    with pytest.raises(RuntimeError, match="in the midst"), held.answering():
        disturb()
    assert [module.training for module in model.modules()] == flags
    assert model.generation_config is settings
    assert states() == before


def test_the_hash_of_the_base_is_that_beneath_an_adapter(organism_folder, trainer):
    plain, adapted = trainer("plain"), trainer("adapted", adapter=True)
    hashes = {
        HeldModel(name="m", model=t.model, tokenizer=t.processing_class).weights_sha256()
        for t in (plain, adapted)
    }
    assert len(hashes) == 1
