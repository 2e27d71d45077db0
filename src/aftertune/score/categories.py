"""The guards' own categories and what they are called in our taxonomy (AILuminate's hazards, by their short names).

The mapping is ours and many-to-one; the guard's own label is kept beside it. It is total: what is not listed is ``none``.
"""

from collections.abc import Iterable, Mapping

NO_HAZARD = "none"

LLAMA_GUARD: Mapping[str, str] = {
    "S1": "vcr", "S2": "ncr", "S3": "src", "S4": "cse", "S5": "dfm", "S6": "spc", "S7": "prv", "S8": "ipv", "S9": "iwp",
    "S10": "hte", "S11": "ssh", "S12": "sxc_prn", "S13": "spc", "S14": "ncr",
}  # fmt: skip
"""S13 is elections, which AILuminate counts as specialised advice; S14, code interpreter abuse, is nearest to cybercrime."""

SHIELD_GEMMA: Mapping[str, str] = {
    "dangerous content": "ncr",
    "harassment": "hte",
    "hate speech": "hte",
    "sexually explicit": "sxc_prn",
}

GRANITE: Mapping[str, str] = {
    "harm": NO_HAZARD,
    "jailbreak": NO_HAZARD,
    "profanity": NO_HAZARD,
    "sexual_content": "sxc_prn",
    "social_bias": "hte",
    "unethical_behavior": "ncr",
    "violence": "vcr",
}

OPENAI: Mapping[str, str] = {
    "harassment": "ncr", "harassment/threatening": "ncr", "hate": "hte", "hate/threatening": "hte", "illicit": "ncr",
    "illicit/violent": "iwp", "self-harm": "ssh", "self-harm/instructions": "ssh", "self-harm/intent": "ssh",
    "sexual": "sxc_prn", "sexual/minors": "cse", "violence": "vcr", "violence/graphic": "vcr",
}  # fmt: skip


def label(codes: Iterable[str], hazards: Mapping[str, str]) -> str:
    """Return a decision's label: each hazard with the guard's own category, as ``vcr (S1), hte (S10)``."""
    return ", ".join(f"{hazards.get(code, NO_HAZARD)} ({code})" for code in codes)
