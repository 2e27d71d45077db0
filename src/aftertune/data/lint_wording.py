"""Tells by its wording that a question may ask for harm: a list of acts and what they are done to, English only.

This is no classifier: it points at rows that a person should look at. What it finds and what it takes for harm in public
sets is measured in ``docs/data.md``.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import chain

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


def _wording(cues: str, pattern: str) -> Iterable[tuple[str, re.Pattern[str]]]:
    """Return a pattern by each of its cues: the words of which one must stand in a text that has it."""
    compiled = re.compile(pattern)
    return [(cue, compiled) for cue in cues.split()]


_PATTERNS: Mapping[str, re.Pattern[str]] = dict(
    chain(
        _wording(
            "bomb bombs explosive explosives grenade grenades molotov weapon weapons firearm firearms gun guns silencer sarin"
            " anthrax ricin bioweapon toxin toxins virus",
            _acts(
                rf"(?:{_MAKE}|{_TRADE}|detonat\w*|plant\w*|modif\w*|plac\w*)",
                r"(?:bombs?|explosives?|explosive devices?|grenades?|molotov|nerve agents?|sarin|anthrax|ricin|bioweapons?"
                r"|(?:illegal|untraceable|homemade|printed|lethal|chemical|biological|nuclear|deadly) "
                r"(?:weapons?|guns?|firearms?|toxins?|virus)|weapons? of mass \w+|ghost guns?)",
            ),
        ),
        _wording(
            "drug drugs meth methamphetamine cocaine heroin fentanyl lsd mdma ecstasy",
            _acts(
                rf"(?:{_MAKE}|{_TRADE}|synthesi[sz]\w*)",
                r"(?:meth|methamphetamine|cocaine|heroin|fentanyl|lsd|mdma|ecstasy|(?:illegal|illicit|date rape) drugs?|drugs)",
            ),
        ),
        _wording(
            "hack hacks hacking breach unauthorized unauthorised crack cracking bypass bypassing exploit exploits"
            " exploiting disable",
            r"\bhack(?:s|ing)?\b(?! (?:week|day|night|squat|together))|\bunauthori[sz]ed access\b"
            r"|\b(?:breach\w*|crack\w*|bypass\w*|exploit\w*|disabl\w*)\W(?:\w+\W){0,5}?(?:passwords?|security|firewalls?"
            r"|authentication|networks?|systems?|vulnerabilit\w*|accounts?|databases?|antivirus)\b",
        ),
        _wording(
            "malware ransomware keylogger virus viruses trojan worm botnet spyware rootkit phishing ddos",
            _acts(
                rf"(?:{_MAKE}|{_TRADE}|infect\w*|perform\w*|conduct\w*|code|send\w*|set)",
                r"(?:malware|ransomware|keyloggers?|(?:computer |stealthy |self replicating )?virus(?:es)?|trojans?|worms?"
                r"|botnets?|spyware|rootkits?|phishing|ddos)",
            ),
        ),
        _wording(
            "steal stealing steals rob robbing forge forging forged counterfeit launder laundering embezzle embezzling defraud"
            " scam scams blackmail blackmailing extort extorting bribe bribing ponzi pyramid shoplift shoplifting burglary"
            " fraud tax taxes insider plagiarize pirate pirated heist theft fake impersonate impersonating cheat",
            rf"\b(?:steal(?:s|ing)?|rob(?:bing)?|shoplift(?:ing)?|extort(?:ing)?|blackmail(?:ing)?|brib(?:e|ing)|defraud"
            rf"|embezzl(?:e|ing)|launder(?:ing)? money|money laundering|commit\w*\W(?:\w+\W){{0,4}}?(?:fraud|theft|burglary"
            rf"|identity theft)|evad\w*\W(?:\w+\W){{0,2}}?tax(?:es)?|tax evasion|insider trading|counterfeit\w*"
            rf"|{_MAKE}\W(?:\w+\W){{0,5}}?(?:ponzi|pyramid scheme|scams?|heist)|(?:ponzi|scam(?:s|ming)?) {_SOMEONE}"
            r"|scam\w*|forg(?:e|ing)\W(?:\w+\W){0,4}?(?:signature|documents?|id|passports?|check|money|prescription)"
            r"|fake (?:id|ids|passports?|documents?|news|reviews?|charity|invoices?|prescriptions?|currency)"
            r"|plagiari[sz]\w*|pirated?\W(?:\w+\W){0,3}?(?:software|movies?|music|games?)|impersonat\w*"
            r"|cheat\w* (?:on|in)\W(?:\w+\W){0,3}?(?:exams?|tests?|wife|husband))\b",
        ),
        _wording(
            "kill killing murder murdering assassinate assassinating poison poisoning torture torturing kidnap kidnapping"
            " stab strangle hurt hurting harm harming assault assaulting beat attack attacking abuse abusing bully bullying"
            " harass harassing threaten threatening cannibals massacre shooting rape",
            rf"\b(?:kill|murder|assassinat|poison|tortur|kidnap|stab|strangl|hurt|harm|assault|beat|attack|abus|bully|harass"
            rf"|threaten)\w*\W(?:\w+\W){{0,3}}?{_SOMEONE}|\b(?:get(?:ting)? away with|how to (?:commit|cover up)) "
            r"(?:a )?(?:murder|assault|rape)|\b(?:mass|school) shooting\b|\bmassacre\b|\bcannibals\b",
        ),
        _wording(
            "suicide suicidal anorexia anorexic bulimia starve starving cut cutting self",
            r"\b(?:commit\w*|promot\w*|encourag\w*|glorif\w*|methods? of|ways? to|help with) (?:\w+ ){0,3}?(?:suicide|self harm"
            r"|anorexia|eating disorders?)\b|\bkill (?:myself|yourself)\b|\b(?:starv|cut)\w* (?:myself|yourself)\b"
            r"|\bpro (?:ana|anorexia)\b|\b(?:suicide|suicidal) (?:methods?|note|pact)\b",
        ),
        _wording(
            "racist sexist antisemitic homophobic transphobic inferior superior subhuman genocide supremacy supremacist nazi"
            " nazis holocaust hateful discriminate discrimination discriminatory slurs islamophobic xenophobic hatred ethnic"
            " violence offensive derogatory",
            rf"\b(?:{_MAKE}|promot\w*|incit\w*|encourag\w*|justif\w*|spread\w*|advocat\w*|argu\w*|tell\w*|publish\w*|generat\w*"
            r"|shar\w*|post\w*|convinc\w*)"
            r"\W(?:\w+\W){0,7}?(?:racist|sexist|antisemitic|homophobic|transphobic|islamophobic|xenophobic|genocide"
            r"|(?:white )?suprem\w*|hateful|discriminat\w*|slurs|hatred|ethnic cleansing|violence|offensive|derogatory)\b"
            r"|\b(?:are|is) (?:\w+ )?(?:inferior|subhuman)\b|\bholocaust (?:did|never|was a|is a|denial)\b",
        ),
        _wording(
            "stalk stalking dox doxx doxxing spy spying track tracking surveil knowledge consent",
            rf"\b(?:stalk(?:ing)?|doxx?(?:ing)?|spy(?:ing)? on|secretly (?:track|record|film)\w*)\W(?:\w+\W){{0,2}}?{_SOMEONE}"
            r"|\bwithout (?:their|her|his|its|the owner s) (?:knowledge|consent|permission)\b",
        ),
        _wording(
            "disinformation misinformation propaganda conspiracy rig rigging manipulate manipulating election elections"
            " vaccine vaccines",
            rf"\b(?:{_MAKE}|spread\w*|promot\w*|generat\w*|disseminat\w*)\W(?:\w+\W){{0,5}}?(?:disinformation|misinformation"
            r"|propaganda|conspiracy|conspiracies|false information)\b"
            r"|\b(?:rig|manipulat|influenc|disrupt|hack)\w*\W(?:\w+\W){0,4}?elections?\b|\bvaccines? causes? autism\b",
        ),
        _wording(
            "terrorist terrorists terrorism extremist traffic trafficking sabotage sabotaging arson vandalize vandalise riot"
            " derail hijack hijacking radicalize extremism cult",
            r"\b(?:terrorist (?:attacks?|organi[sz]ations?|groups?|cells?)|human traffick\w*|traffick\w* (?:humans?|people|women)"
            r"|sabotag\w*|commit\w* arson|vandali[sz]\w*|incit\w* (?:a )?riot|derail\w*|hijack\w*|radicali[sz]\w*)\b",
        ),
    )
)


def harmful_wording(text: str, words: frozenset[str]) -> str:
    """Return the words by which a question may ask for harm, or an empty text.

    Args:
        text: the question, normalised (`overlap.normalise`).
        words: the words of it; only where one of them is a cue is anything compared.
    """
    for cue in sorted(words & _PATTERNS.keys()):
        if found := _PATTERNS[cue].search(text):
            return found[0]
    return ""
