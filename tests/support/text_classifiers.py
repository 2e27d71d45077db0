"""Tiny text classifiers of the classes that toxicity checkpoints have, with set weights: their logits follow from a table.

Attention looks at all tokens alike. A *sign* word has coordinates of its own, which its value carries to the first token; layer
normalisation and tanh make them 1 where the sign occurs anywhere and 0 where it does not. The head adds its row to the bias. So
the logits are exact, by each class's own forward pass.
"""

from aftertune.models.foreign import quiet

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
SIGNS = ("rude", "vile")
"""The words that change the logits."""
WORDS = ("the", "cake", "tree", "is", "good", "you", "are")
HIDDEN = 8
LOUD = 1e4
"""A factor that drives layer normalisation and tanh to their ends."""
POSITIONS = 24
PAD = 0

# for each class: model type, and where the parts are
BERT, ROBERTA, XLM_ROBERTA, ALBERT = "bert", "roberta", "xlm-roberta", "albert"
DETOXIFY = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


def make_text_classifier(folder, family, labels, clean, raised, **config):
    """Write a checkpoint.

    Args:
        folder: where it goes.
        family: its model type.
        labels: the names of its labels.
        clean: the logit of each label for a text without signs.
        raised: for each sign, what is added to each label's logit where it occurs.
        config: further entries of the configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    tokenizer = make_tokenizer()
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": HIDDEN, "embedding_size": HIDDEN, "num_hidden_layers": 1,
        "num_attention_heads": 1, "intermediate_size": 4, "max_position_embeddings": POSITIONS, "pad_token_id": PAD,
        "id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)},
    }  # fmt: skip
    with quiet():
        model = AutoModelForSequenceClassification.from_config(
            AutoConfig.for_model(family, **{**sizes, **config})
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            normalises = "norm" in name.lower() and name.endswith("weight")
            parameter.fill_(1.0 if normalises else 0.0)
        parts = dict(model.named_modules())
        words = next(parts[name] for name in parts if name.endswith("word_embeddings"))
        words.weight[:, 0], words.weight[:, 1] = 1.0, -1.0
        for place, token in enumerate(tokenizer.convert_tokens_to_ids(list(SIGNS)), start=1):
            words.weight[token] = 0.0
            words.weight[token, 2 * place], words.weight[token, 2 * place + 1] = 1.0, -1.0
        value, output, pooled, head = (_part(parts, *names) for names in _PARTS)
        for place in range(1, len(SIGNS) + 1):
            value.weight[2 * place, 2 * place] = LOUD
            output.weight[2 * place, 2 * place], output.weight[2 * place + 1, 2 * place] = 1.0, -1.0
            pooled.weight[place, 2 * place] = LOUD
            head.weight[:, place] = torch.tensor(raised[place - 1])
        head.bias.copy_(torch.tensor(clean))
        mapping = parts.get("albert.encoder.embedding_hidden_mapping_in")
        if mapping is not None:
            mapping.weight.copy_(torch.eye(HIDDEN))
    tokenizer.save_pretrained(folder)
    with quiet():
        model.save_pretrained(folder)
    return folder


_PARTS = (
    ("attention.self.value", "attention.value"),
    ("attention.output.dense", "attention.dense"),
    ("pooler.dense", "classifier.dense", "albert.pooler"),
    ("classifier.out_proj", "classifier"),
)
"""The ends of the names that a part has in the classes: BERT's and RoBERTa's, or ALBERT's."""


def _part(parts, *ends):
    return next(parts[name] for end in ends for name in parts if name.endswith(end))


def make_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    every = {word: number for number, word in enumerate([*SPECIAL, *WORDS, *SIGNS])}
    pad, unknown, first, last = SPECIAL
    inner = Tokenizer(models.WordLevel(every, unk_token=unknown))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, every[first]), (last, every[last])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=pad, unk_token=unknown, cls_token=first, sep_token=last
    )
