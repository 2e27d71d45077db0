"""CTranslate2's greedy answers: ``python ctranslate2_answers.py MODEL PROMPTS BATCH TOKENS``; prints texts and CPU seconds.

MODEL is a converted folder with its tokenizer, PROMPTS a JSON list of rendered prompts.
"""

import json
import sys
import time
from pathlib import Path

import ctranslate2
from transformers import AutoTokenizer


def main() -> None:
    """Answer all prompts once, after a first few that warm the kernels up."""
    folder, prompts, batch, tokens = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [
        tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in json.loads(Path(prompts).read_text(encoding="utf-8"))
    ]
    generator = ctranslate2.Generator(
        folder, device="cpu", compute_type="float32", intra_threads=1, inter_threads=1
    )

    def answers(some: list[list[str]]) -> list[str]:
        results = generator.generate_batch(
            some,
            max_length=int(tokens),
            sampling_topk=1,
            end_token=tokenizer.eos_token,
            include_prompt_in_result=False,
            max_batch_size=int(batch),
            batch_type="examples",
        )
        return [
            tokenizer.decode(result.sequences_ids[0], skip_special_tokens=True)
            for result in results
        ]

    answers(rows[:2])
    before = time.process_time()
    texts = answers(rows)
    print(json.dumps({"texts": texts, "cpu": time.process_time() - before}))


if __name__ == "__main__":
    main()
