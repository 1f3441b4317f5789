"""
The text of ``ner_tagging.py``: sentences with names in them, from a small grammar.

The same word is the name of a person, a place or an organisation; which one, a word before it tells: a noun or a
verb, next to the name or up to a dozen words earlier, with nouns of other kinds on the way. ``a bank`` on the way means
nothing, ``the bank`` does::

    the surgeon once admired by a bank in winter , melin taro was forgotten
    O   O       O    O       O  O O    O  O      O B-PER I-PER O   O

Training, validation and test share the words of the language, but neither names nor patterns: no name of one is a name
in another, and no piece of a pattern (what leads to a name, what stands between, what follows) occurs in two of them.
"""

from typing import NamedTuple

import numpy as np

KINDS = ("PER", "LOC", "ORG")
TAGS = ("O", *(f"{place}-{kind}" for kind in KINDS for place in "BI"))
SPLITS = ("train", "validation", "test")
PAD, MASK = "[pad]", "[mask]"
#: words of a sentence, at most
LONGEST = 32

#: what a name is called by, what is done to it, how it is described, what it does by itself; a list a kind
NOUNS = {
    "PER": "surgeon singer judge painter".split(),
    "LOC": "village port island valley".split(),
    "ORG": "bank company charity brewery".split(),
}
DONE = {
    "PER": "interviewed married".split(),
    "LOC": "visited reached".split(),
    "ORG": "sued acquired".split(),
}
LIKE = {
    "PER": "retired bearded".split(),
    "LOC": "coastal sunny".split(),
    "ORG": "bankrupt listed".split(),
}
DOES = {
    "PER": "sang slept".split(),
    "LOC": "froze flooded".split(),
    "ORG": "merged hired".split(),
}
#: words that say nothing about names
WORDS = {
    "ADJ": "small famous old strange".split(),
    "ADV": "often quickly again twice".split(),
    "VERBED": "admired described watched forgotten followed".split(),
    "TIME": "winter spring autumn wartime".split(),
    "WHO": "we they everyone many some".split(),
    "JOIN": "while but because".split(),
}
#: ordinary nouns, of which the second line are names as well
THINGS = "coin letter lamp report garden window".split()
DOUBLES = "stone frost grace brook field rose wood hope".split()
#: pieces of the patterns: what leads to a name, what stands before it, what follows
LEADS = {
    "train": ("the NOUN", "the ADJ NOUN", "this NOUN", "the LIKE NOUN", "WHO DONE", "a lamp DONE", "WHO ADV DONE"),
    "validation": ("this ADJ NOUN", "some letter DONE"),
    "test": ("the ADJ ADJ NOUN", "this LIKE NOUN", "the report ADV DONE", "everyone in TIME DONE"),
}
GAPS = {
    "train": (
        "",
        ",",
        "that WHO VERBED ,",
        "so ADV VERBED in the ADJ THING ,",
        ", as everyone knew ,",
        ", near a OTHER ,",
        "once VERBED by a OTHER in TIME ,",
        ", which a OTHER had VERBED ADV ,",
        ", VERBED for a ADJ THING ,",
        ", still VERBED by many in TIME ,",
        ", unlike a ADJ OTHER or a OTHER ,",
        "VERBED in TIME and ADV VERBED in TIME ,",
    ),
    "validation": (
        ", knew WHO ,",
        ", by a OTHER so VERBED ,",
        "VERBED ADV for the THING in TIME ,",
        ", or so WHO knew ,",
    ),
    "test": (
        "which everyone VERBED ,",
        ", unlike a OTHER in TIME ,",
        ", ADV VERBED and still ADJ ,",
        "that a ADJ OTHER had ADV VERBED ,",
        ", by many VERBED near the THING ,",
        ", VERBED in TIME by a OTHER or near a OTHER ,",
        ", as ADJ as the ADJ THING ,",
    ),
}
TAILS = {
    "train": (", VERBED a THING", "was VERBED ADV", "had a ADJ THING", ", VERBED by WHO ,", "in TIME", ""),
    "validation": ("was near a ADJ THING", "had ADV VERBED the THING"),
    "test": (", ADV VERBED in TIME ,", "was the ADJ THING of TIME", "still VERBED the THING"),
}
#: the share of names that follow what leads to them at once, in every split
ADJACENT = 0.25
#: clauses without a name
PLAIN = {
    "train": ("the NOUN DOES ADV", "a LIKE NOUN DOES", "a THING DONE a NOUN", "WHO VERBED the ADJ THING of the NOUN"),
    "validation": ("the LIKE NOUN DOES", "a OTHER VERBED the THING"),
    "test": ("a ADJ OTHER DOES in TIME", "WHO VERBED this THING", "the NOUN ADV DOES"),
}


class Sentence(NamedTuple):
    """
    A sentence, and what its words are.

    :param words: its words
    :param tags: the tag of each
    :param pattern: the pieces it was made of
    """

    words: list[str]
    tags: list[str]
    pattern: tuple[str, ...]


def _make_names() -> dict[str, list[str]]:
    """:return: split -> words that names consist of there"""
    rng = np.random.default_rng(0)
    first, second = "mel tar vos kin ral dun bes hol pry gar lun sav".split(), "in o ek ard us ey aro in".split()
    ends = ["", *"ton mir da shaw".split()]
    invented = sorted({a + b + c for a in first for b in second for c in ends})
    rng.shuffle(invented)
    return {
        "train": invented[:70] + DOUBLES[:4],
        "validation": invented[70:95] + DOUBLES[4:6],
        "test": invented[95:145] + DOUBLES[6:],
    }


NAMES = _make_names()


def _make_vocabulary() -> list[str]:
    """:return: all words; a word's place is its id"""
    words = {word for lists in (NOUNS, DONE, LIKE, DOES, WORDS, NAMES) for words in lists.values() for word in words}
    pieces = {piece for pool in (LEADS, GAPS, TAILS, PLAIN) for split in pool.values() for piece in split}
    words |= {word for piece in pieces for word in piece.split() if not word.isupper()}
    return [PAD, MASK, *sorted(words | {"and", *THINGS, *DOUBLES})]


VOCABULARY = _make_vocabulary()
IDS = {word: i for i, word in enumerate(VOCABULARY)}


class Grammar:
    """
    Draws sentences.

    :param split: whose patterns, of SPLITS
    :param seed: of the generator
    :param names: words that names consist of; default those of the split
    """

    def __init__(self, split: str, seed: int, names: list[str] | None = None) -> None:
        self.split = split
        self.names = NAMES[split] if names is None else names
        self.rng = np.random.default_rng(seed)

    def sentences(self, n: int) -> list[Sentence]:
        """:return: n of them"""
        return [self.sentence() for _ in range(n)]

    def sentence(self) -> Sentence:
        """:return: one or two clauses, with a name in one of them at least"""
        while True:
            named = [True, self.rng.random() < 0.6][: self.rng.integers(1, 3)]
            if self.rng.random() < 0.5:
                named.reverse()
            words: list[str] = []
            tags: list[str] = []
            pattern: list[str] = []
            for i, with_name in enumerate(named):
                if i:
                    self._add("JOIN", "PER", words, tags)
                pattern += self._named(words, tags) if with_name else self._plain(words, tags)
            if len(words) <= LONGEST:
                return Sentence(words, tags, tuple(pattern))

    def _named(self, words: list[str], tags: list[str]) -> list[str]:
        kind = self._pick(KINDS)
        lead, gap, tail = (self._pick(pool[self.split]) for pool in (LEADS, GAPS, TAILS))
        if self.rng.random() < ADJACENT:
            gap = ""
        self._add(f"{lead} {gap}", kind, words, tags)
        self._name(kind, words, tags)
        if self.rng.random() < 0.25:
            self._add("and", kind, words, tags)
            self._name(kind, words, tags)
        self._add(tail, kind, words, tags)
        return [lead, gap, tail]

    def _plain(self, words: list[str], tags: list[str]) -> list[str]:
        piece = self._pick(PLAIN[self.split])
        self._add(piece, self._pick(KINDS), words, tags)
        return [piece]

    def _name(self, kind: str, words: list[str], tags: list[str]) -> None:
        n_words = self.rng.choice(3, p=(0.4, 0.4, 0.2)) + 1
        words += [self._pick(self.names) for _ in range(n_words)]
        tags += [f"B-{kind}", *[f"I-{kind}"] * (n_words - 1)]

    def _add(self, piece: str, kind: str, words: list[str], tags: list[str]) -> None:
        """Fill a piece's slots, the words in capitals."""
        for slot in piece.split():
            if slot in ("NOUN", "DONE", "LIKE", "DOES"):
                slot = self._pick({"NOUN": NOUNS, "DONE": DONE, "LIKE": LIKE, "DOES": DOES}[slot][kind])
            elif slot == "OTHER":
                slot = self._pick(NOUNS[self._pick(KINDS)])
            elif slot == "THING":
                slot = self._pick(THINGS + DOUBLES)
            elif slot in WORDS:
                slot = self._pick(WORDS[slot])
            words.append(slot)
            tags.append("O")

    def _pick(self, choices: "list[str] | tuple[str, ...]") -> str:
        return choices[self.rng.integers(len(choices))]


def unlabelled(n: int, seed: int) -> list[list[str]]:
    """
    What an encoder is pre-trained on: the patterns of training, filled with the names of all splits, without tags.

    :param n: sentences
    :param seed: of the generator
    :return: their words
    """
    every_name = [name for split in SPLITS for name in NAMES[split]]
    return [sentence.words for sentence in Grammar("train", seed, every_name).sentences(n)]
