"""Every method on real files: tiny checkpoints and adapters, the values of the written tensors, what is refused."""

import shutil
from types import SimpleNamespace

import pytest
from repair_models import write_base
from safetensors.torch import load_file, save_file
from tiny_models import change_adapter_config, make_adapter, make_checkpoint, user

from aftertune.core.records import Intent, Prompt, conversation
from aftertune.errors import InputError, ModelError
from aftertune.models.open import Engines
from aftertune.repair import arithmetic as eq
from aftertune.repair.activations import input_norms, refusal_directions
from aftertune.repair.candidates import make_candidates
from aftertune.repair.data_free import SAFETY_PROMPT
from aftertune.repair.methods import METHODS, Sources
from aftertune.repair.weights import base_checkpoint, factors_of, fine_tune_of

torch = pytest.importorskip("torch")
LAYER = "model.layers.0"
PROMPTS = tuple(
    Prompt(behavior=f"{intent}{n}", template="plain", task="text", intent=intent, text=text, set="s")
    for intent, texts in ((Intent.HARMFUL, ("bake a map", "read the cake now")), (Intent.BENIGN, ("bake a cake", "plan a letter")))
    for n, text in enumerate(texts)
)  # fmt: skip


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Base, un-aligned model, two full fine-tunes and two adapters, of random weights."""
    folder = tmp_path_factory.mktemp("methods")
    base = make_checkpoint(folder / "base", seed=0)
    draw = torch.Generator().manual_seed(7)
    for name, size in (("before", 0.1), ("full1", 0.05), ("full2", 0.05)):
        make_checkpoint(folder / name, seed=0)
        tensors = {
            key: value + size * torch.randn(value.shape, generator=draw)
            for key, value in weights(base).items()
        }
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
    for seed in (1, 2):
        make_adapter(folder / f"adapter{seed}", base, seed=seed)
    return folder


@pytest.fixture(scope="module")
def engines():
    with Engines(threads=1, device="cpu") as opened:
        yield opened


def made(models, engines, method, strength, *tuned, folder, prompts=PROMPTS):
    chosen = METHODS[method]
    tunes = tuple(fine_tune_of(str(models / name), str(models / "base")) for name in tuned)
    before = str(models / "before") if chosen.unaligned else None
    chosen.check_sources(tunes, before)
    sources = Sources(
        tunes=tunes,
        unaligned=None if before is None else base_checkpoint(before),
        prompts=prompts,
        engines=engines,
    )
    (candidate,) = make_candidates(chosen, [strength], sources, folder, lambda _count: None)
    return candidate.folder


def delta(folder, module):
    """Return what an adapter adds to a weight."""
    name = f"base_model.model.{module}"
    tensors = load_file(folder / "adapter_model.safetensors")
    adapter = SimpleNamespace(name="a", folder=folder)
    (scaling,) = {item.scaling for item in factors_of(adapter)}
    return scaling * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]


def expected(models, method, strength, key, tuned):
    """Return the new value of one matrix inside a layer, by the method's equation."""
    base, before = weights(models / "base")[key], weights(models / "before")[key]
    new = [weights(models / name)[key] for name in tuned]
    return {
        "scaling": lambda: eq.scaled(base, new[0], strength),
        "soup": lambda: eq.averaged(base, new, strength),
        "intruders": lambda: eq.without_intruders(base, new[0], strength),
        "safe-lora": lambda: base + eq.aligned_part(base - before, new[0] - base),
        "resta": lambda: eq.with_safety_vector(base, new[0], before, strength),
        "lox": lambda: eq.extrapolated(base, new[0], before, strength),
    }[method]()


@pytest.mark.parametrize(
    ("method", "strength", "tuned"),
    [
        ("scaling", 0.3, ["full1"]),
        ("soup", 0.8, ["full1", "full2"]),
        ("intruders", 0.5, ["full1"]),
        ("safe-lora", 1.0, ["full1"]),
        ("resta", 0.4, ["full1"]),
        ("lox", 0.4, ["full1"]),
    ],
)
def test_a_full_fine_tune_is_mended_by_its_equation(
    models, engines, tmp_path, method, strength, tuned
):
    folder = made(models, engines, method, strength, *tuned, folder=tmp_path)
    for module in ("self_attn.q_proj", "mlp.down_proj"):
        key = f"{LAYER}.{module}.weight"
        assert torch.allclose(
            weights(folder)[key], expected(models, method, strength, key, tuned), atol=1e-5
        )
    assert weights(folder).keys() == weights(models / "base").keys()
    assert (folder / "config.json").is_file()
    assert (folder / "tokenizer.json").is_file()


@pytest.mark.parametrize(("method", "tuned"), [("scaling", ["adapter1"]), ("soup", ["adapter1", "adapter2"])])  # fmt: skip
def test_an_adapter_stays_one_and_is_exact(models, engines, tmp_path, method, tuned):
    folder = made(models, engines, method, 0.5, *tuned, folder=tmp_path)
    for module in (f"{LAYER}.self_attn.v_proj", f"{LAYER}.mlp.up_proj"):
        changes = [delta(models / name, module) for name in tuned]
        mean = sum(changes) / len(changes)
        assert torch.allclose(delta(folder, module), 0.5 * mean, atol=1e-5)


def test_intruders_of_an_adapter_are_taken_out_by_peft(models, engines, tmp_path):
    """An update of rank 1 along a direction that the base has not is an intruder as a whole."""
    folder = tmp_path / "large"
    make_adapter(folder, models / "base", seed=3)
    tensors = load_file(folder / "adapter_model.safetensors")
    large = {key: 40 * value if ".lora_B." in key else value for key, value in tensors.items()}
    save_file(large, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    mended = made(models, engines, "intruders", 1.0, folder, folder=tmp_path / "out")
    module = f"{LAYER}.mlp.up_proj"
    base = weights(models / "base")[f"{module}.weight"]
    whole = eq.without_intruders(base, base + delta(folder, module), 1.0) - base
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    rank = 4  # PEFT brings the change back to the adapter's rank
    assert torch.allclose(
        delta(mended, module), (left[:, :rank] * values[:rank]) @ right[:rank], atol=1e-2
    )
    assert delta(mended, module).norm() < 0.9 * delta(folder, module).norm()


def test_safe_lora_projects_only_the_modules_of_the_lowest_cosines(models, engines, tmp_path):
    folder = made(models, engines, "safe-lora", 0.5, "adapter1", folder=tmp_path)
    before = {item.module: item.up for item in factors_of(fine_tune_of(str(models / "adapter1"), str(models / "base")).adapter)}  # fmt: skip
    after = {item.module: item.up for item in factors_of(SimpleNamespace(name="a", folder=folder))}
    base, unaligned = weights(models / "base"), weights(models / "before")
    down = {item.module: item.down for item in factors_of(SimpleNamespace(name="a", folder=folder))}
    parts = {
        module: eq.aligned_part(base[f"{module}.weight"] - unaligned[f"{module}.weight"], up)
        for module, up in before.items()
    }
    cosines = {m: eq.likeness(up @ down[m], parts[m] @ down[m]) for m, up in before.items()}
    changed = {module for module in before if not torch.equal(before[module], after[module])}
    assert changed == set(sorted(cosines, key=cosines.get)[: len(before) // 2])
    for module in changed:
        assert torch.allclose(after[module], parts[module], atol=1e-5)


def test_the_refusal_direction_is_that_of_the_hidden_states(models, engines):
    from transformers import AutoModelForCausalLM

    base = base_checkpoint(str(models / "base"))
    directions = refusal_directions(base, PROMPTS, engines)
    assert directions.keys() == {
        f"model.layers.{layer}.{module}" for layer in (0, 1) for module in ("self_attn.o_proj", "mlp.down_proj")
    }  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(base.folder)
    renderer = engines.renderer(base)
    means = {}
    for intent in Intent:
        states = [
            model(torch.tensor([tokens]), output_hidden_states=True).hidden_states[1][0, -1]
            for tokens in renderer.prompts(
                [conversation(p.text, None) for p in PROMPTS if p.intent is intent]
            )
        ]
        means[intent] = torch.stack(states).mean(dim=0)
    difference = means[Intent.HARMFUL] - means[Intent.BENIGN]
    along = directions[f"{LAYER}.mlp.down_proj"]
    assert torch.allclose(along, difference / difference.norm(), atol=1e-4)


@pytest.mark.parametrize("tuned", ["full1", "adapter1"])
def test_a_restored_fine_tune_writes_the_direction_as_the_base(models, engines, tmp_path, tuned):
    folder = made(models, engines, "direction", 1.0, tuned, folder=tmp_path)
    directions = refusal_directions(base_checkpoint(str(models / "base")), PROMPTS, engines)
    for module, along in directions.items():
        key, base = f"{module}.weight", weights(models / "base")
        change = weights(folder)[key] - base[key] if tuned == "full1" else delta(folder, module)
        assert float((along @ change).abs().max()) < 1e-4
        assert float(change.norm()) > 0.01
    if tuned == "full1":
        other = f"{LAYER}.self_attn.q_proj.weight"
        assert torch.equal(weights(folder)[other], weights(models / "full1")[other])


def test_pruning_goes_by_the_norms_of_the_harmful_prompts(models, engines, tmp_path):
    folder = made(models, engines, "antidote", 0.2, "full1", folder=tmp_path)
    harmful = [prompt for prompt in PROMPTS if prompt.intent is Intent.HARMFUL]
    tune = fine_tune_of(str(models / "full1"), str(models / "base"))
    norms = input_norms(base_checkpoint(str(models / "full1")), harmful, engines)
    key = f"{LAYER}.mlp.gate_proj"
    base, tuned = weights(models / "base")[f"{key}.weight"], weights(tune.folder)[f"{key}.weight"]
    result = weights(folder)[f"{key}.weight"]
    assert torch.equal(result, eq.reverted(base, tuned, norms[key], 0.2))
    assert int((result == base).sum()) == round(0.2 * base.numel())


def test_ptst_puts_the_prompt_before_every_conversation(tmp_path, engines):
    base = write_base(tmp_path / "base", 3, words=SAFETY_PROMPT.split())
    write_base(tmp_path / "tuned", 3, words=SAFETY_PROMPT.split())
    tune = fine_tune_of(str(tmp_path / "tuned"), str(base))
    sources = Sources(tunes=(tune,), unaligned=None, prompts=(), engines=engines)
    (candidate,) = make_candidates(METHODS["ptst"], [1.0], sources, tmp_path / "c", lambda _: None)
    renderer = engines.renderer(base_checkpoint(str(candidate.folder)))
    (text,) = renderer.texts([user("tell", "me")], answer_follows=True)
    assert text == f"<system> {SAFETY_PROMPT} <user> tell me <assistant> "


REFUSED = [
    ("resta", ["adapter1"], {}, "changes all weights"),
    ("lox", ["adapter1"], {}, "changes all weights"),
    ("antidote", ["adapter1"], {}, "changes all weights"),
    ("soup", ["full1"], {}, "two fine-tunes or more"),
    ("soup", ["full1", "adapter1"], {}, "of one kind"),
    ("scaling", ["adapter1"], {"use_dora": True}, "use_dora"),
    ("scaling", ["adapter1"], {"bias": "all"}, "bias"),
    ("soup", ["adapter1", "adapter2"], {"use_rslora": True}, "use_rslora"),
]


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_method_cannot_mend_is_one_line(models, engines, tmp_path, case):
    method, tuned, entries, part = case
    names = []
    for name in tuned:
        shutil.copytree(models / name, tmp_path / name)
        if entries:
            change_adapter_config(tmp_path / name, **entries)
        names.append(tmp_path / name)
    with pytest.raises(InputError) as error:
        made(models, engines, method, 0.5, *names, folder=tmp_path / "out")
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_modules_that_do_not_match_by_name_are_an_error(models, engines, tmp_path):
    tensors = weights(models / "before")
    tensors[f"{LAYER}.self_attn.query.weight"] = tensors.pop(f"{LAYER}.self_attn.q_proj.weight")
    other = make_checkpoint(tmp_path / "before", seed=0)
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    tune = fine_tune_of(str(models / "full1"), str(models / "base"))
    sources = Sources(
        tunes=(tune,), unaligned=base_checkpoint(str(other)), prompts=(), engines=engines
    )
    with pytest.raises(ModelError, match=r"q_proj.*query|query.*q_proj|same tensors"):
        make_candidates(METHODS["safe-lora"], [0.5], sources, tmp_path / "out", lambda _: None)


def test_a_candidate_that_is_there_is_not_made_again(models, engines, tmp_path):
    folder = made(models, engines, "scaling", 0.3, "full1", folder=tmp_path)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert made(models, engines, "scaling", 0.3, "full1", folder=tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert made(models, engines, "scaling", 0.3, "full2", folder=tmp_path) != folder
