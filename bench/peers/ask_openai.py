"""The same prompts by OpenAI's own client, as many open at a time: ``python bench/peers/ask_openai.py URL PROMPTS``."""

import asyncio
import sys
from pathlib import Path

from openai import AsyncOpenAI

sys.path.insert(0, str(Path(__file__).parents[1]))
from endpoint import OPEN, SAID, texts


async def main(url: str, count: int) -> None:
    """Ask everything and see that everything is answered."""
    places = asyncio.Semaphore(OPEN)

    async def ask(client: AsyncOpenAI, text: str) -> str | None:
        async with places:
            reply = await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": text}],
                temperature=0.0,
                max_tokens=256,
                seed=0,
            )
        return reply.choices[0].message.content

    async with AsyncOpenAI(base_url=url, api_key="none") as client:
        answers = await asyncio.gather(*(ask(client, text) for text in texts(count)))
    assert answers == [SAID] * count


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
