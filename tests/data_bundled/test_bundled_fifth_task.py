"""A fifth task from a YAML file, end to end: prompts, two real models, the rules, label accuracy, and the result."""

import json

import pytest
import yaml

from aftertune.core.protocols import Tools
from aftertune.data.prompt_sets import load_prompts
from aftertune.data.templates import SHIPPED
from aftertune.report.progress import Quiet
from aftertune.run import Purpose, run_study
from aftertune.study import load_study

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
OPTIONS = {"templates": "mine.yaml", "tasks": ["question_answering"], "templates_per_task": 2}
BEHAVIORS = 11


def make_model(folder, words, seed):
    """A small random Llama that knows every word of the prompts."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from aftertune.models.foreign import quiet

    pad, unknown, end, *roles = ["<pad>", "<unk>", "<end>", "<user>", "<assistant>"]
    vocabulary = {word: number for number, word in enumerate([pad, unknown, end, *roles, *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=pad,
        unk_token=unknown,
        eos_token=end,
        chat_template=TEMPLATE,
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, initializer_range=0.4, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with quiet():
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fifth")
    (folder / "mine.yaml").write_text(SHIPPED["question-answering"].read_text())
    tools = Tools(open_model=pytest.fail, folder=folder)
    prompts = load_prompts("fifth", loader="multitask-v1", options=OPTIONS, tools=tools).prompts
    words = sorted(
        {word for prompt in prompts for word in prompt.text.split()} | {"positive", "food"}
    )
    make_model(folder / "base", words, 0)
    make_model(folder / "tuned", words, 1)
    study = {
        "name": "fifth",
        "models": [
            {"name": "base", "reference": "./base"},
            {"name": "tuned", "reference": "./tuned", "base": "base"},
        ],
        "prompts": [
            {"set": "fifth", "loader": "multitask-v1", "options": OPTIONS, "limit": BEHAVIORS}
        ],
        "judges": ["rules"],
        "metrics": ["labels"],
        "decoding": {"max_new_tokens": 4},
        "engine": {"threads": 1, "device": "cpu"},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        run_study(
            load_study(folder / "study.yaml"),
            folder / "out",
            Quiet(),
            Purpose(command="test", source=folder),
        )
    return json.loads((folder / "out" / "result.json").read_text())


def test_every_prompt_of_the_fifth_task_is_asked(result):
    assert result["prompts"]["count"] == BEHAVIORS * 2 * 2


def test_the_fifth_task_stands_in_the_result_with_its_rates_and_scores(result):
    (setting,) = result["result"]["settings"]
    assert {condition["name"] for condition in setting["conditions"]} == {"base", "tuned"}
    for condition in setting["conditions"]:
        rate = condition["asr"]["by_task"]["question_answering"]
        assert (rate["behaviors"], rate["n"]) == (BEHAVIORS, BEHAVIORS * 2)
        assert condition["over_refusal"]["by_task"]["question_answering"]["n"] == BEHAVIORS * 2
        assert condition["capability"]["labels"]["by_task"]["question_answering"]["n"] > 0
