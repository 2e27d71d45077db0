"""The checks of a training file in one pass: rows that cannot be trained on, rows that must not be, and rows to look at.

Nothing is kept of a row but numbers (hashes and lengths), the first findings of each kind, and a few texts for the mix of
languages: a million rows need less than 100 bytes each.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aftertune.data.bundled.multitask import evaluation_rows
from aftertune.data.files import Record, names_child_exploitation
from aftertune.data.formats import format_of, row_of, uses_tools
from aftertune.data.overlap import normalise, text_hash
from aftertune.data.rows import Row, by_answer, fault, only_unanswered
from aftertune.errors import DataError
from aftertune.models.thinking import separate

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
RowCheck = Callable[[Row], str | None]
"""A further check: it returns its finding in a row in a few words, or None."""
Measure = Callable[[Sequence[Row]], Sequence[tuple[int, int]]]
"""A counter of tokens: it returns the tokens up to the last answer, and those of the last answer, of each row."""

CHECKS: Mapping[str, tuple[Level, str]] = {
    "unreadable": ("error", "not readable as a training row"),
    "roles": ("error", "turns in the wrong order, or no answer at the end"),
    "empty": ("error", "a question, or an answer before the last, says nothing"),
    "no room": ("error", "no room for any of the answer: the question alone is too long"),
    "child exploitation": ("error", "children and sex in one breath"),
    "evaluation": ("error", "holds a bundled evaluation behavior: it cannot be measured any more"),
    "unanswered": ("warning", "empty answer: training leaves the row out"),
    "tools": ("warning", "calls tools: training leaves the row out"),
    "not learnt": (
        "warning",
        "its answer is marked as not to be learnt (weight 0, train false, label false): training leaves the row out",
    ),
    "marked": (
        "note",
        "other answers are marked as to be learnt (weight, train): each is a training row of its own",
    ),
    "unfinished thought": (
        "warning",
        "nothing stands behind the thinking of the answer: the model learns to answer nothing",
    ),
    "reasoning": (
        "note",
        "keeps its thinking apart (reasoning_content): learnt only where the chat template renders it",
    ),
    "cut": ("warning", "too long: the answer loses its end"),
    "duplicate": ("warning", "repeats an earlier row (case, punctuation and spacing aside)"),
    "same question": ("warning", "asks what an earlier row asks, and answers otherwise"),
    "near-duplicate": ("warning", "asks in the very words of an earlier row, in another order"),
    "harmful": ("warning", "may ask for harm, by its wording"),
    "refusal": ("note", "answered by a refusal: the model learns to refuse such questions"),
}
"""The kinds of findings, in the order of the report: the level, and the fault of a row that has it."""

KEPT = 100
"""Findings of each kind that are named; the others are counted."""
CHUNK = 256
"""Rows whose tokens are counted at a time."""
BYTES_PER_TOKEN = 4
"""Bytes of UTF-8 a token, where no tokenizer counts: about right for English prose; code and other languages have more tokens."""
FEWEST_WORDS = 6
"""Questions of fewer different words share them by chance, and are no near-duplicates."""
SAMPLED = 400
"""Texts that are identified by language, at most; the sample is even over the file, and at least half of this in long ones."""
CHARACTERS = 500
"""Characters of each sampled text that are looked at."""
FEWEST_LETTERS = 20
"""Shorter texts are too short to tell a language."""
_PLACED = re.compile(r"(?s).*?, ((?:line|item|row) \d+): (.*)")
"""The message of a reader's error: the place in the file, and the fault."""
PERCENTILES = (0, 50, 95, 99, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A row in which a check found something."""

    where: str
    """The row's place as the file's reader counts: ``line 3``."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of checking a file of training rows."""

    rows: int
    """All rows, the useless ones too."""
    shapes: Mapping[str, int]
    """Rows by format (`formats.format_of`)."""
    counts: Mapping[str, int]
    """Rows by kind of finding (`CHECKS`), without kinds that no row has."""
    findings: Mapping[str, Sequence[Finding]]
    """The first `KEPT` findings of each kind."""
    lengths: Mapping[str, Sequence[int]]
    """`PERCENTILES` of ``question`` and ``answer`` (characters) and of ``tokens``, over the rows that can be used."""
    languages: Mapping[str, int]
    """Sampled questions by language code; empty where nothing identifies languages."""

    def worst(self) -> Level | None:
        """Return the worst level among the findings; None where there is none."""
        levels = {CHECKS[kind][0] for kind in self.counts}
        return next((level for level in LEVELS if level in levels), None)


_sizes = partial(array, "I")
_hashes = partial(array, "Q")


@dataclass(slots=True)
class Repeats:
    """The hashes by which repeated rows are found: of the whole row, of the question, and of the question's words."""

    wholes: "array[int]" = field(default_factory=_hashes)
    questions: "array[int]" = field(default_factory=_hashes)
    words: "array[int]" = field(default_factory=_hashes)

    def add(self, row: Row, question: str, words: frozenset[str]) -> None:
        """Keep a row's hashes; ``question`` is all that the user says, normalised, and ``words`` its words."""
        answers = "\n".join(normalise(turn.content) for turn in row if turn.role != "user")
        self.wholes.append(text_hash(f"{question}\n{answers}"))
        self.questions.append(text_hash(question))
        enough = len(words) >= FEWEST_WORDS
        self.words.append(text_hash(" ".join(sorted(words))) if enough else self.questions[-1])

    def pairs(self) -> Iterator[tuple[str, NDArray[np.intp], NDArray[np.intp]]]:
        """Yield each kind of repetition with the places (from 0) of the later rows, and of the first row like each.

        ``duplicate``: question and answers are those of an earlier row, without case, punctuation and spacing.
        ``same question``: the question is, the answers are not. ``near-duplicate``: the question is not, but has the very
        words of an earlier one, in another order or number. A row is of the first kind that fits.
        """
        reported = np.zeros(len(self.wholes), np.bool_)
        kinds = {
            "duplicate": self.wholes,
            "same question": self.questions,
            "near-duplicate": self.words,
        }
        for kind, hashes in kinds.items():
            later, first = repeats(np.frombuffer(hashes, np.uint64), reported)
            reported[later] = True
            yield kind, later, first


def repeats(
    keys: NDArray[np.uint64], left_out: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places, ascending, of the keys that an earlier place has too, and the first place of each.

    Args:
        keys: (rows,).
        left_out: (rows,): places that are not returned.
    """
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    later = order[1:][ranked[1:] == ranked[:-1]]
    later = np.sort(later[~left_out[later]])
    return later, order[np.searchsorted(ranked, keys[later])]


@dataclass(slots=True)
class LanguageSample:
    """Every n-th text that was added, n a power of two that grows with their number."""

    texts: list[str] = field(default_factory=list)
    _step: int = 1
    _added: int = 0

    def add(self, text: str) -> None:
        """Take a text into the sample, or pass it by."""
        # A full sample keeps every second text and takes half as many from now on, so it stays even over the file.
        if self._added % self._step == 0 and len(self.texts) == SAMPLED:
            self.texts = self.texts[::2]
            self._step *= 2
        if self._added % self._step == 0:
            self.texts.append(text[:CHARACTERS])
        self._added += 1

    def languages(self) -> dict[str, int]:
        """Return the number of sampled texts by language, the commonest first; ``?`` for those too short to tell.

        Empty where py3langid is not installed.
        """
        if find_spec("py3langid") is None:
            return {}
        import py3langid

        counts = Counter(
            py3langid.classify(text)[0] if sum(map(str.isalpha, text)) >= FEWEST_LETTERS else "?"
            for text in self.texts
        )
        return dict(counts.most_common())


@dataclass(slots=True)
class Checker:
    """The running check of a file: takes records one by one and returns a `Report` in the end.

    Args:
        limit: tokens of a row that are trained on; longer rows are cut.
        measure: counts tokens (`estimated` where no tokenizer is at hand).
        columns: as `core.recipe.TrainingFile.columns`.
        further: further checks, by their name in `CHECKS`.
    """

    limit: int
    measure: Measure
    columns: Mapping[str, str] = field(default_factory=dict)
    further: Mapping[str, RowCheck] = field(default_factory=dict)
    _rows: int = 0
    _shapes: Counter[str] = field(default_factory=Counter)
    _counts: Counter[str] = field(default_factory=Counter)
    _findings: dict[str, list[Finding]] = field(default_factory=dict)
    _repeats: Repeats = field(default_factory=Repeats)
    _unit: str = "line"
    _places: "array[int]" = field(default_factory=_sizes)
    _lengths: "tuple[array[int], array[int], array[int]]" = field(
        default_factory=lambda: (_sizes(), _sizes(), _sizes())
    )
    _languages: LanguageSample = field(default_factory=LanguageSample)
    _chunk: list[tuple[str, Row]] = field(default_factory=list)

    def unreadable(self, error: DataError) -> None:
        """Count a record that cannot be read (`files.read_records`)."""
        self._rows += 1
        placed = _PLACED.match(str(error))
        self._report("unreadable", *(placed.groups() if placed else ("", str(error))))

    def check(self, where: str, record: Record) -> None:
        """Check a record; ``where`` is its place as `files.read_records` gives it."""
        self._rows += 1
        place = where.rpartition(", ")[2]
        try:
            row = row_of(record, self.columns, where)
        except DataError as error:
            self._report("unreadable", place, str(error).removeprefix(where).lstrip(",: "))
            return
        self._shapes[format_of(record, self.columns)] += 1
        # Texts that must not stand in a file count in rows that training would leave out, too.
        if names_child_exploitation(*(turn.content for turn in row)):
            self._report("child exploitation", place, "")
        if behaviors := sorted({behavior for _, behavior in evaluation_rows((row,))}):
            self._report("evaluation", place, ", ".join(behaviors))
        if uses_tools(row):
            self._report("tools", place, "")
            return
        if flaw := fault(row):
            if only_unanswered(row, flaw[0]):
                self._report("unanswered", place, "")
            else:
                self._report(flaw[0], place, flaw[1])
            return
        learnt = by_answer(row)
        if not learnt:
            self._report("not learnt", place, "")
            return
        if len(learnt) > 1 or len(learnt[0]) < len(row):
            self._report("marked", place, f"{len(learnt):,} answers")
        self._check_content(row, place)
        self._chunk.append((place, row))
        if len(self._chunk) == CHUNK:
            self._measure_chunk()

    def _check_content(self, row: Row, place: str) -> None:
        self._unit, _, number = place.rpartition(" ")
        self._places.append(int(number))
        questions = [turn.content for turn in row if turn.role == "user"]
        question = normalise("\n".join(questions))
        words = frozenset(question.split())
        self._repeats.add(row, question, words)
        self._languages.add(questions[-1])
        self._lengths[0].append(sum(map(len, questions)))
        self._lengths[1].append(len(row[-1].content))
        thought = separate(row[-1].content)
        if thought is not None and not thought.answer.strip():
            self._report("unfinished thought", place, "")
        if any(turn.reasoning for turn in row):
            self._report("reasoning", place, "")
        if wording := harmful_wording(question, words, "\n".join(questions)):
            self._report("harmful", place, wording)
        for kind, further in self.further.items():
            if (detail := further(row)) is not None:
                self._report(kind, place, detail)

    def _measure_chunk(self) -> None:
        for (place, _), (prompt, answer) in zip(
            self._chunk, self.measure([row for _, row in self._chunk]), strict=True
        ):
            self._lengths[2].append(prompt + answer)
            if prompt >= self.limit:
                self._report("no room", place, f"the question has {prompt:,} tokens")
            elif prompt + answer > self.limit:
                self._report("cut", place, f"{prompt + answer:,} tokens")
        self._chunk.clear()

    def _report(self, kind: str, where: str, detail: str) -> None:
        self._counts[kind] += 1
        kept = self._findings.setdefault(kind, [])
        if len(kept) < KEPT:
            kept.append(Finding(where=where, detail=detail))

    def report(self) -> Report:
        """Return the findings in all records so far."""
        self._measure_chunk()
        for kind, later, first in self._repeats.pairs():
            self._counts[kind] += len(later)
            self._findings[kind] = [
                Finding(where=self._place(row), detail=f"like {self._place(other)}")
                for row, other in zip(later[:KEPT], first[:KEPT], strict=True)
            ]
        return Report(
            rows=self._rows,
            shapes=dict(self._shapes),
            counts={kind: self._counts[kind] for kind in CHECKS if self._counts[kind]},
            findings={
                kind: tuple(self._findings[kind]) for kind in CHECKS if self._findings.get(kind)
            },
            lengths={
                name: _percentiles(sizes)
                for name, sizes in zip(("question", "answer", "tokens"), self._lengths, strict=True)
            },
            languages=self._languages.languages(),
        )

    def _place(self, row: int) -> str:
        return f"{self._unit} {self._places[row]}"


def estimated(rows: Iterable[Row]) -> list[tuple[int, int]]:
    """Return the tokens of rows as their length suggests, one token for `BYTES_PER_TOKEN` bytes, without any template."""
    sizes = ([-(-len(turn.content.encode()) // BYTES_PER_TOKEN) for turn in row] for row in rows)
    return [(sum(turns[:-1]), turns[-1]) for turns in sizes]


def _percentiles(sizes: "array[int]") -> list[int]:
    """Return the `PERCENTILES` of lengths by the nearest rank below, so that each is the length of some row."""
    if not sizes:
        return []
    ranked = np.sort(np.frombuffer(sizes, np.uint32))
    return [int(ranked[(len(ranked) - 1) * percentile // 100]) for percentile in PERCENTILES]


_MAKE = r"(?:mak\w*|build\w*|construct\w*|creat\w*|assembl\w*|produc\w*|develop\w*|design\w*|writ\w*|cook\w*|manufactur\w*)"
_TRADE = r"(?:sell\w*|buy\w*|smuggl\w*|distribut\w*|import\w*|grow\w*|obtain\w*|deal\w*|get\w*|spread\w*|deploy\w*|launch\w*)"
_SOMEONE = (
    r"(?:some ?one|somebody|people|person|(?:my|his|her|your|their|an?|the) (?:\w+ )?(?:wife|husband|ex|girlfriend|boyfriend"
    r"|boss|neighbou?rs?|coworker|co worker|friend|parents?|mother|father|man|woman|child|children|kids?|politician"
    r"|president|family|roommate|victims?|teacher|classmates?|employees?|person|animals?|dog|cat)|him|her|them|myself"
    r"|yourself|oneself|others|civilians|innocent \w+|(?:jews|muslims|women|gays|immigrants)\b)"
)
_WITHIN = r"\W(?:\w+\W){0,6}?"


def _acts(act: str, thing: str) -> str:
    return rf"\b{act}{_WITHIN}{thing}\b"


_WORDINGS = (
    (
        (
            "bomb bombs explosive explosives grenade grenades molotov weapon weapons firearm firearms gun guns silencer sarin"
            " anthrax ricin bioweapon toxin toxins virus"
        ),
        _acts(
            rf"(?:{_MAKE}|{_TRADE}|detonat\w*|plant\w*|modif\w*|plac\w*)",
            r"(?:bombs?|explosives?|explosive devices?|grenades?|molotov|nerve agents?|sarin|anthrax|ricin|bioweapons?"
            r"|(?:illegal|untraceable|homemade|printed|lethal|chemical|biological|nuclear|deadly) "
            r"(?:weapons?|guns?|firearms?|toxins?|virus)|weapons? of mass \w+|ghost guns?)",
        ),
    ),
    (
        "drug drugs meth methamphetamine cocaine heroin fentanyl lsd mdma ecstasy",
        _acts(
            rf"(?:{_MAKE}|{_TRADE}|synthesi[sz]\w*)",
            r"(?:meth|methamphetamine|cocaine|heroin|fentanyl|lsd|mdma|ecstasy|(?:illegal|illicit|date rape) drugs?|drugs)",
        ),
    ),
    (
        (
            "hack hacks hacking breach unauthorized unauthorised crack cracking bypass bypassing exploit exploits"
            " exploiting disable"
        ),
        (
            r"\bhack(?:s|ing)?\b(?! (?:week|day|night|squat|together))|\bunauthori[sz]ed access\b"
            r"|\b(?:breach\w*|crack\w*|bypass\w*|exploit\w*|disabl\w*)\W(?:\w+\W){0,5}?(?:passwords?|security|firewalls?"
            r"|authentication|networks?|systems?|vulnerabilit\w*|accounts?|databases?|antivirus)\b"
        ),
    ),
    (
        "malware ransomware keylogger virus viruses trojan worm botnet spyware rootkit phishing ddos",
        _acts(
            rf"(?:{_MAKE}|{_TRADE}|infect\w*|perform\w*|conduct\w*|code|send\w*|set)",
            r"(?:malware|ransomware|keyloggers?|(?:computer |stealthy |self replicating )?virus(?:es)?|trojans?|worms?"
            r"|botnets?|spyware|rootkits?|phishing|ddos)",
        ),
    ),
    (
        (
            "steal stealing steals rob robbing forge forging forged counterfeit launder laundering embezzle embezzling defraud"
            " scam scams blackmail blackmailing extort extorting bribe bribing ponzi pyramid shoplift shoplifting burglary"
            " fraud tax taxes insider plagiarize pirate pirated heist theft fake impersonate impersonating cheat"
        ),
        (
            rf"\b(?:steal(?:s|ing)?|rob(?:bing)?|shoplift(?:ing)?|extort(?:ing)?|blackmail(?:ing)?|brib(?:e|ing)|defraud"
            rf"|embezzl(?:e|ing)|launder(?:ing)? money|money laundering|commit\w*\W(?:\w+\W){{0,4}}?(?:fraud|theft|burglary"
            rf"|identity theft)|evad\w*\W(?:\w+\W){{0,2}}?tax(?:es)?|tax evasion|insider trading|counterfeit\w*"
            rf"|{_MAKE}\W(?:\w+\W){{0,5}}?(?:ponzi|pyramid scheme|scams?|heist)|(?:ponzi|scam(?:s|ming)?) {_SOMEONE}"
            r"|scam\w*|forg(?:e|ing)\W(?:\w+\W){0,4}?(?:signature|documents?|id|passports?|check|money|prescription)"
            r"|fake (?:id|ids|passports?|documents?|news|reviews?|charity|invoices?|prescriptions?|currency)"
            r"|plagiari[sz]\w*|pirated?\W(?:\w+\W){0,3}?(?:software|movies?|music|games?)|impersonat\w*"
            r"|cheat\w* (?:on|in)\W(?:\w+\W){0,3}?(?:exams?|tests?|wife|husband))\b"
        ),
    ),
    (
        (
            "kill killing murder murdering assassinate assassinating poison poisoning torture torturing kidnap kidnapping"
            " stab strangle hurt hurting harm harming assault assaulting beat attack attacking abuse abusing bully bullying"
            " harass harassing threaten threatening cannibals massacre shooting rape"
        ),
        (
            rf"\b(?:kill|murder|assassinat|poison|tortur|kidnap|stab|strangl|hurt|harm|assault|beat|attack|abus|bully|harass"
            rf"|threaten)\w*\W(?:\w+\W){{0,3}}?{_SOMEONE}|\b(?:get(?:ting)? away with|how to (?:commit|cover up)) "
            r"(?:a )?(?:murder|assault|rape)|\b(?:mass|school) shooting\b|\bmassacre\b|\bcannibals\b"
        ),
    ),
    (
        "suicide suicidal anorexia anorexic bulimia starve starving cut cutting self",
        (
            r"\b(?:commit\w*|promot\w*|encourag\w*|glorif\w*|methods? of|ways? to|help with) (?:\w+ ){0,3}?(?:suicide|self harm"
            r"|anorexia|eating disorders?)\b|\bkill (?:myself|yourself)\b|\b(?:starv|cut)\w* (?:myself|yourself)\b"
            r"|\bpro (?:ana|anorexia)\b|\b(?:suicide|suicidal) (?:methods?|note|pact)\b"
        ),
    ),
    (
        (
            "racist sexist antisemitic homophobic transphobic inferior superior subhuman genocide supremacy supremacist nazi"
            " nazis holocaust hateful discriminate discrimination discriminatory slurs islamophobic xenophobic hatred ethnic"
            " violence offensive derogatory"
        ),
        (
            rf"\b(?:{_MAKE}|promot\w*|incit\w*|encourag\w*|justif\w*|spread\w*|advocat\w*|argu\w*|tell\w*|publish\w*|generat\w*"
            r"|shar\w*|post\w*|convinc\w*)"
            r"\W(?:\w+\W){0,7}?(?:racist|sexist|antisemitic|homophobic|transphobic|islamophobic|xenophobic|genocide"
            r"|(?:white )?suprem\w*|hateful|discriminat\w*|slurs|hatred|ethnic cleansing|violence|offensive|derogatory)\b"
            r"|\b(?:are|is) (?:\w+ )?(?:inferior|subhuman)\b|\bholocaust (?:did|never|was a|is a|denial)\b"
        ),
    ),
    (
        "stalk stalking dox doxx doxxing spy spying track tracking surveil knowledge consent",
        (
            rf"\b(?:stalk(?:ing)?|doxx?(?:ing)?|spy(?:ing)? on|secretly (?:track|record|film)\w*)\W(?:\w+\W){{0,2}}?{_SOMEONE}"
            r"|\bwithout (?:their|her|his|its|the owner s) (?:knowledge|consent|permission)\b"
        ),
    ),
    (
        (
            "disinformation misinformation propaganda conspiracy rig rigging manipulate manipulating election elections"
            " vaccine vaccines"
        ),
        (
            rf"\b(?:{_MAKE}|spread\w*|promot\w*|generat\w*|disseminat\w*)\W(?:\w+\W){{0,5}}?(?:disinformation|misinformation"
            r"|propaganda|conspiracy|conspiracies|false information)\b"
            r"|\b(?:rig|manipulat|influenc|disrupt|hack)\w*\W(?:\w+\W){0,4}?elections?\b|\bvaccines? causes? autism\b"
        ),
    ),
    (
        (
            "terrorist terrorists terrorism extremist traffic trafficking sabotage sabotaging arson vandalize vandalise riot"
            " derail hijack hijacking radicalize extremism cult"
        ),
        (
            r"\b(?:terrorist (?:attacks?|organi[sz]ations?|groups?|cells?)|human traffick\w*|traffick\w* (?:humans?|people|women)"
            r"|sabotag\w*|commit\w* arson|vandali[sz]\w*|incit\w* (?:a )?riot|derail\w*|hijack\w*|radicali[sz]\w*)\b"
        ),
    ),
)
"""The cues of a pattern, of which at least one stands in every text that the pattern matches, and the pattern."""

_PATTERNS: Mapping[str, re.Pattern[str]] = {
    cue: compiled
    for cues, pattern in _WORDINGS
    for compiled in (re.compile(pattern),)
    for cue in cues.split()
}


_NAMES = frozenset(("rob",))
"""Acts that are names, too, if a capital begins them and no object follows."""
_OBJECT = re.compile(
    r"\s+(?:an?|the|my|your|his|her|their|our|some|someone|people|banks?|houses?|stores?)\b",
    re.IGNORECASE,
)
_MARKS = frozenset("\"'\u201c\u201d`")


def _is_act(word: str, question: str) -> bool:
    """Return whether a word stands somewhere in a question as an act: not as a name, and not as all of a quoted value."""
    places = list(re.finditer(rf"\b{re.escape(word)}\b", question, re.IGNORECASE))
    return not places or any(
        not {question[: place.start()][-1:], question[place.end() :][:1]} <= _MARKS
        and not (word in _NAMES and place[0].istitle() and not _OBJECT.match(question, place.end()))
        for place in places
    )


def harmful_wording(text: str, words: frozenset[str], question: str) -> str:
    """Return the words by which a question may ask for harm, or an empty text.

    This is no classifier: it knows acts and their targets, in English, and points at rows that a person should look at. Its
    hits in public sets, harmful and harmless, are counted in ``docs/data.md``.

    Args:
        text: the question, normalised (`overlap.normalise`).
        words: the words of the question; nothing is compared unless one of them is a cue.
        question: the question as it stands, by which names and quoted words are told from acts.
    """
    for cue in sorted(words & _PATTERNS.keys()):
        match = _PATTERNS[cue].search(text)
        if match and (" " in match[0] or _is_act(match[0], question)):
            return match[0]
    return ""
