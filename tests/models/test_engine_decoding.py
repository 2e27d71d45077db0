import json

import numpy as np
import pytest
from scipy import stats
from tiny_models import answers, conversations, jobs

from aftertune.core.records import Decoding
from aftertune.errors import ModelError
from aftertune.models.decoding import (
    CheckpointDefaults,
    GumbelSampler,
    gumbel_noise,
    likeliest,
    request_seed,
)
from aftertune.models.reference import vocabulary


def folder(tmp_path, own, **config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    return tmp_path


@pytest.mark.parametrize(
    "own",
    [
        {"repetition_penalty": -5},
        {"repetition_penalty": "high"},
        {"no_repeat_ngram_size": 1.5},
        {"bad_words_ids": [[]]},
        {"suppress_tokens": "all"},
        {"begin_suppress_tokens": [-1]},
    ],
)
def test_a_setting_that_cannot_be_obeyed_is_told_before_anything_is_asked(tmp_path, own):
    with pytest.raises(
        ModelError,
        match=rf"^model 'm': generation_config.json: {next(iter(own))} cannot be .*; mend it",
    ):
        CheckpointDefaults("m", folder(tmp_path, own), ())


@pytest.mark.parametrize("ends", ["x", [1, "x"], -1, True, "x" * 5_000])
def test_an_end_token_is_a_number(tmp_path, ends):
    with pytest.raises(
        ModelError,
        match=r"^model 'm': eos_token_id is .{1,40}; it should be a token's number, or several$",
    ):
        CheckpointDefaults("m", folder(tmp_path, {"eos_token_id": ends}), (2,))


def test_sound_settings_are_taken(tmp_path):
    own = {
        "eos_token_id": [3, 1],
        "repetition_penalty": 1.1,
        "bad_words_ids": [[5]],
        "suppress_tokens": None,
    }
    defaults = CheckpointDefaults("m", folder(tmp_path, own, max_position_embeddings=64), (2,))
    assert defaults.end_tokens == [1, 2, 3]
    assert defaults.extra == {"repetition_penalty": 1.1, "bad_words_ids": [[5]]}
    assert defaults.context == 64


def test_the_vocabulary_is_the_language_models(tmp_path):
    assert vocabulary("m", folder(tmp_path, {}, text_config={"vocab_size": 7}, vocab_size=9)) == 7
    assert vocabulary("m", folder(tmp_path, {})) is None


WARM = Decoding(temperature=0.9, top_p=0.95, top_k=20, max_new_tokens=16)


def test_the_noise_is_gumbel_noise():
    import torch

    seeds = torch.tensor([request_seed(0, [row], 0) for row in range(200)])
    noise = gumbel_noise(seeds, 3, 500).numpy().ravel()
    assert stats.kstest(noise, "gumbel_r").pvalue > 0.001


def test_the_noise_of_requests_steps_and_tokens_is_uncorrelated():
    import torch

    seeds = torch.tensor([request_seed(0, [1], sample) for sample in range(40)])
    draws = np.stack([gumbel_noise(seeds, step, 1000).numpy() for step in range(5)]).reshape(
        200, 1000
    )
    off_diagonal = np.corrcoef(draws)[~np.eye(200, dtype=bool)]
    assert np.abs(off_diagonal).max() < 6 / np.sqrt(1000)
    assert np.abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 5 / np.sqrt(
        200_000
    )


def test_the_draws_follow_the_softmax_at_the_temperature():
    import torch

    logits, temperature, n = torch.tensor([2.0, 1.0, 0.0, -1.0]), 0.7, 20_000
    seeds = [request_seed(5, [sample], 0) for sample in range(n)]
    sampler = GumbelSampler(Decoding(temperature=temperature), seeds, 1, "cpu")
    drawn = sampler(torch.zeros(n, 1, dtype=torch.int64), logits.expand(n, 4)).argmax(1)
    expected = torch.softmax(logits / temperature, 0).numpy() * n
    assert stats.chisquare(np.bincount(drawn.numpy(), minlength=4), expected).pvalue > 0.001


@pytest.mark.parametrize(("top_k", "top_p"), [(2, 1.0), (0, 0.5)])
def test_top_k_and_top_p_leave_nothing_else(top_k, top_p):
    import torch

    logits = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1])).expand(500, 4)
    seeds = [request_seed(0, [sample], 0) for sample in range(500)]
    sampler = GumbelSampler(Decoding(temperature=1.0, top_k=top_k, top_p=top_p), seeds, 1, "cpu")
    drawn = sampler(torch.zeros(500, 1, dtype=torch.int64), logits).argmax(1)
    assert set(drawn.tolist()) == {0, 1}


@pytest.mark.parametrize(("scale", "top_p"), [(4.0, 0.9), (4.0, 0.999), (0.1, 0.95), (30.0, 0.5)])
def test_top_p_of_a_large_vocabulary_is_that_of_transformers(scale, top_p):
    """The flat distribution needs more than the first thousand tokens."""
    import torch
    from transformers import TopPLogitsWarper

    generator = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(8, 20_000, generator=generator)
    expected = TopPLogitsWarper(top_p)(None, scores)
    kept = likeliest(scores, top_p)
    counts = [torch.isfinite(side).sum(1) for side in (kept, expected)]
    assert (counts[0] - counts[1]).abs().max() <= 1  # the last token, by how sums are rounded
    both = torch.isfinite(kept) & torch.isfinite(expected)
    assert torch.equal(kept[both], expected[both])
    assert (torch.isfinite(expected).sum(1) - both.sum(1)).abs().max() <= 1


def test_a_request_draws_the_same_alone_and_in_any_batch(engines, base):
    engine = engines.open(str(base))
    prompts = conversations(40)
    together = answers(engine, prompts, WARM)
    assert [answers(engine, [prompt], WARM)[0] for prompt in prompts] == together
    assert answers(engine, prompts[::-1], WARM) == together[::-1]
    mixed = [*jobs(engine, prompts[:10], WARM, sample=1), *jobs(engine, prompts, WARM)]
    given = dict(engine.generate(mixed))
    assert [given[job.key] for job in mixed[10:]] == together


def test_seed_and_sample_change_the_draw(engines, base):
    engine = engines.open(str(base))
    prompts = conversations(10)
    other_seed = Decoding(temperature=0.9, top_p=0.95, top_k=20, max_new_tokens=16, seed=1)
    draws = [
        answers(engine, prompts, WARM),
        answers(engine, prompts, WARM, sample=1),
        answers(engine, prompts, other_seed),
    ]
    assert draws[0] != draws[1]
    assert draws[0] != draws[2]
