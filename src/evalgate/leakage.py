"""Leakage: eval samples that stand in the training text, word for word or nearly so.

What is looked for depends on how many words a sample has (its prompt and its target, as a leaked copy would hold them):

=============  =========================================================================================
words          found in a training row that
=============  =========================================================================================
any            says the same, but for case, punctuation and white space (`exact`)
8 to 12        holds all of its 8-grams (`8-gram`)
13 and more    holds most of its 13-grams (`13-gram`), or is nearly the same by its 3-grams (`near`)
=============  =========================================================================================

N-grams that stand in more than 1 % of the training rows are the template's and do not count. Where samples are made
from templates they are also near to each other, and so are honest training rows: "most" and "nearly" therefore begin
well above what different samples of the same eval set have in common.

Sources: 13-grams and 8-grams of words as in Brown et al. 2020 (GPT-3) and Chowdhery et al. 2022 (PaLM, which asks for
70 % of a sample's 8-grams); MinHash after Broder 1997; template n-grams are counted as in Manku and Motwani 2002.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from evalgate import text
from evalgate.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from datasketch import MinHash, MinHashLSH

LONG, SHORT, SHINGLE = 13, 8, 3  # words of an n-gram: of long items, of short ones, of near-duplicates
TEMPLATE = 0.01  # n-grams that stand in a larger share of the different training rows are the template's,
TEMPLATE_ROWS = 10  # unless they stand in only so few rows: in a small file a leak pasted twice is no template
PEERS_TEMPLATE = 0.10  # the same among the samples of one eval set, which is one kind of text of the many in training
MOST, NEARLY = 0.70, 0.45  # least shares of a sample's 13-grams, and of its and a row's 3-grams
MARGIN = 1 / 4  # how far beyond what its peers have in common, on the way to all of it
NEIGHBOURS = 8  # that a sample is held against
PEERS = 0.99  # of the samples of an eval set have no more than that in common with another
BUCKET = 1000  # rows after which what cannot be a template any more is forgotten
PERMUTATIONS, BANDS = 128, (42, 3)  # of MinHash; bands of 3 find 98 % of pairs that are .45 alike, 99.6 % from .5 on

Gram = tuple[str, ...]

# Scripts without spaces between words, each sign of which is a word (Thai to Myanmar, kana, Han).
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Signs before a number are words too: 12+7, 12-7 and 12=7 are three questions.
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[-+*/%^<>=×÷](?=\s*\d)")
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
# What chat templates write between messages, with the role behind it: no words of anybody's.
_CONTROL = re.compile(
    r"(?:<\|[^<>|\s]{1,40}\|>|<(?:start|end)_of_turn>)(?:(?:system|user|assistant|model)\b)?|</?s>|\[/?INST\]"
)
_MINUS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"))


@dataclass(frozen=True, slots=True)
class EvalText:
    """What a leaked copy of an eval sample would say; a sample may have several forms, each an `EvalText` of its id.

    Attributes:
        id: of the sample.
        text: its prompt and its target.
        cluster: samples of one cluster share text by nature (questions about one document).
    """

    id: str
    text: str
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class Leak:
    """A sample that stands in the training text.

    Attributes:
        id: of the sample.
        kind: `exact`, `13-gram`, `8-gram` or `near`, the first of these that any row shows.
        similarity: of the row most alike, a share: 1 for `exact`, else of the n-grams that are not the template's.
        rows: where it stands, the row most alike first.
    """

    id: str
    kind: str
    similarity: float
    rows: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.rows) - 1} more" if len(self.rows) > 1 else ""
        alike = "" if self.kind == "exact" else f" {self.similarity:.0%}"
        return f"{self.id} ({self.kind}{alike}, {self.rows[0]}{more})"


@dataclass(frozen=True)
class Leaks:
    """What stands in the training text, by eval set.

    Attributes:
        found: `suite/task` to its leaked samples, sorted by id; every set that was looked for is there.
        samples: `suite/task` to how many samples it has.
    """

    found: Mapping[str, tuple[Leak, ...]]
    samples: Mapping[str, int]

    def share(self, task: str) -> float:
        """Of a set's samples that stand in the training text, 0 to 1."""
        return len(self.found[task]) / self.samples[task] if self.samples[task] else 0.0

    @cached_property
    def ids(self) -> dict[str, tuple[str, ...]]:
        """`suite/task` to the ids of its leaked samples, of sets that have any: what a version's lineage holds."""
        return {task: tuple(leak.id for leak in leaks) for task, leaks in sorted(self.found.items()) if leaks}

    def lines(self, limit: int = 3) -> list[str]:
        """For people: a line per set with leaked samples, the first few of them named."""
        if not self.ids:
            return [f"none of {sum(self.samples.values()):,} eval samples stands in the training text"]
        return [self._line(task, limit) for task in self.ids]

    def _line(self, task: str, limit: int) -> str:
        named = text.listed([str(leak) for leak in self.found[task]], limit)
        counted = f"{len(self.found[task]):,} of {self.samples[task]:,} samples ({self.share(task):.2%})"
        return f"{task}: {counted} stand in the training text: {named}"

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        """Every leak with its rows."""
        return {task: [asdict(leak) for leak in leaks] for task, leaks in sorted(self.found.items()) if leaks}


def refuse(leaks: Leaks, limit: float) -> None:
    """Stop before anything is trained where more of an eval set leaked than may.

    Args:
        leaks: what was found.
        limit: `data.max_leaked`, the largest share of an eval set that is tolerated.

    Raises:
        ConfigError: names the sets, the first samples and their training rows.
    """
    over = [task for task in leaks.ids if leaks.share(task) > limit]
    if over:
        worst = max(over, key=leaks.share)
        others = f"; also {text.listed([task for task in over if task != worst])}" if len(over) > 1 else ""
        raise ConfigError(
            f"{leaks._line(worst, 3)}; tolerated are {limit:.2%}{others}",
            where="data.max_leaked",
            mend="Remove these rows from the training data, or raise data.max_leaked to train all the same.",
        )


def words(said: str) -> Gram:
    """A text as words, without case, punctuation, white space, what nobody sees and the tokens of chat templates.

    Signs before a number are words.
    """
    seen = _CONTROL.sub(" ", _UNSEEN.sub("", said))
    plain = unicodedata.normalize("NFKC", seen).casefold().translate(_MINUS)
    return tuple(_WORD.findall(plain)) or tuple(plain.split())  # `?!` is a text as well


def find_leaks(training: Iterable[tuple[str, str]], evalsets: Mapping[str, Sequence[EvalText]]) -> Leaks:
    """Which eval samples stand in the training text.

    The eval sets are held in memory, the training text is not: it is read twice, first for its templates.

    Args:
        training: (where such as `train.jsonl:12`, text) of each row; iterated twice, so no iterator.
        evalsets: `suite/task` to the texts of its samples.

    Raises:
        TypeError: the training text can be read only once.
        MissingExtraError: datasketch is not installed.
    """
    if isinstance(training, Iterator):
        raise TypeError("the training text is read twice: give a collection, or an object whose __iter__ begins anew")
    try:
        import datasketch  # noqa: F401
    except ImportError:
        raise MissingExtraError("datasketch", "train") from None
    items = [_item(task, each) for task, texts in evalsets.items() for each in texts]
    template = _template((words(said) for _, said in training), {gram for item in items for gram in item.grams})
    index = _Index([item.without(template) for item in items])
    hits: dict[tuple[str, str], list[tuple[int, float, str]]] = defaultdict(list)
    for where, said in training:
        for item, rank, similarity in index.alike(words(said), template):
            hits[item.task, item.id].append((rank, similarity, where))
    found: dict[str, list[Leak]] = {task: [] for task in evalsets}
    for (task, id_), rows in sorted(hits.items(), key=lambda each: each[0]):
        rows.sort(key=lambda row: (row[0], -row[1]))  # a stable sort: rows equally alike stay in their order
        places = tuple(dict.fromkeys(where for *_, where in rows))
        found[task].append(Leak(id_, _KINDS[rows[0][0]], round(rows[0][1], 4), places))
    return Leaks(
        {task: tuple(leaks) for task, leaks in found.items()},
        {task: len({each.id for each in texts}) for task, texts in evalsets.items()},
    )


_KINDS = ("exact", f"{LONG}-gram", f"{SHORT}-gram", "near")
_EXACT, _LONG, _SHORT, _NEAR = range(4)


@dataclass(frozen=True, slots=True)
class _Item:
    """One form of a sample: its words, and which n-grams it is known by."""

    task: str
    id: str
    cluster: str | None
    words: Gram
    grams: frozenset[Gram]  # 13-grams or 8-grams
    shingles: frozenset[Gram]  # 3-grams, of long items only

    def without(self, template: AbstractSet[Gram]) -> _Item:
        """The same, known only by what is its own."""
        return replace(self, grams=self.grams - template, shingles=self.shingles - template)

    def peer_of(self, other: _Item) -> bool:
        """Whether what the two have in common is chance or template: different samples that say different things."""
        related = self.cluster is not None and self.cluster == other.cluster
        return self.id != other.id and not related and self.words != other.words


def _item(task: str, given: EvalText) -> _Item:
    said = words(given.text)
    size = LONG if len(said) >= LONG else SHORT
    shingles = _grams(said, SHINGLE) if len(said) >= LONG else frozenset[Gram]()
    return _Item(task, given.id, given.cluster, said, _grams(said, size), shingles)


def _grams(said: Gram, size: int) -> frozenset[Gram]:
    return frozenset(said[start : start + size] for start in range(len(said) - size + 1))


def _template(rows: Iterable[Gram], known: AbstractSet[Gram]) -> frozenset[Gram]:
    """The n-grams that stand in more than 1 % of the different rows: all 3-grams are counted, of longer ones `known`.

    A row that stands there many times counts once, so that a leak does not become a template by repetition. The count
    of an n-gram is at most 0.1 % of the rows too high: what has been so rare is forgotten after every `BUCKET` rows.
    """
    counts: dict[Gram, int] = {}
    seen: set[int] = set()
    sizes = sorted({len(gram) for gram in known})
    for said in rows:
        if (name := hash(said)) in seen:
            continue
        seen.add(name)
        bucket = (len(seen) - 1) // BUCKET
        longer = (gram for size in sizes for gram in _grams(said, size) if gram in known)
        for gram in chain(_grams(said, SHINGLE), longer):
            counts[gram] = counts.get(gram, bucket) + 1
        if len(seen) % BUCKET == 0:
            counts = {gram: count for gram, count in counts.items() if count > bucket + 1}
    limit = max(TEMPLATE * len(seen), TEMPLATE_ROWS)
    return frozenset(gram for gram, count in counts.items() if count > limit)


class _Index:
    """The eval samples by their words and n-grams, and by how much of them a row must have."""

    def __init__(self, items: Sequence[_Item]) -> None:
        self._items = items
        self._by_words: dict[Gram, list[_Item]] = defaultdict(list)
        self._by_gram: dict[Gram, list[int]] = defaultdict(list)
        by_task: dict[str, list[_Item]] = defaultdict(list)
        for number, item in enumerate(items):
            if item.words:
                self._by_words[item.words].append(item)
            for gram in item.grams:
                self._by_gram[gram].append(number)
            if len(item.words) >= LONG:
                by_task[item.task].append(item)
        self._sizes = sorted({len(gram) for gram in self._by_gram})
        self._most = {task: _bar(own, [item.grams for item in own], MOST, _held) for task, own in by_task.items()}
        self._nearly = {task: _bar(own, [i.shingles for i in own], NEARLY, _jaccard) for task, own in by_task.items()}
        self._shingles = frozenset(gram for item in items for gram in item.shingles)
        self._lsh = _lsh({number: item.shingles for number, item in enumerate(items) if item.shingles})

    def alike(self, said: Gram, template: AbstractSet[Gram]) -> Iterator[tuple[_Item, int, float]]:
        """The items that a row holds and how each shows: rank of the kind, similarity."""
        for item in self._by_words.get(said, ()):
            yield item, _EXACT, 1.0
        grams = (gram for size in self._sizes for gram in _grams(said, size))
        for number, shared in Counter(n for gram in grams for n in self._by_gram.get(gram, ())).items():
            item = self._items[number]
            long, share = len(item.words) >= LONG, _held(shared, len(item.grams), 0)
            if share >= (self._most[item.task] if long else 1):
                yield item, _LONG if long else _SHORT, share
        own = _grams(said, SHINGLE) - template
        if len(own & self._shingles) < NEARLY * len(own) or not own:
            return  # it cannot be nearly any of them, so that its MinHash is not needed
        for number in self._lsh.query(_minhash(own)):
            item = self._items[number]
            share = _jaccard(len(item.shingles & own), len(item.shingles), len(own))
            if share >= self._nearly[item.task]:
                yield item, _NEAR, share


def _held(shared: int, size: int, other: int) -> float:
    """Which share of an item's n-grams a text has, however long it is."""
    return shared / size


def _jaccard(shared: int, size: int, other: int) -> float:
    """Which share of the n-grams of both, both have."""
    return shared / (size + other - shared)


def _bar(
    items: Sequence[_Item], known: Sequence[frozenset[Gram]], least: float, alike: Callable[[int, int, int], float]
) -> float:
    """How alike a row must be: nearer than an eval set's own samples are to each other, and at least so much.

    Each sample is held against the few that share most of its rarer n-grams with it, and against a few others: what a
    large share of the samples has in common, everybody's neighbour has too.
    """
    counts = Counter(gram for grams in known for gram in grams)
    limit = max(PEERS_TEMPLATE * len(items), TEMPLATE_ROWS)
    having: dict[Gram, list[int]] = defaultdict(list)
    for number, grams in enumerate(known):
        for gram in grams:
            if counts[gram] <= limit:
                having[gram].append(number)
    nearest = []
    for number, (item, grams) in enumerate(zip(items, known, strict=True)):
        shared = Counter(at for gram in grams for at in having[gram] if item.peer_of(items[at]))
        chosen = {at for at, _ in shared.most_common(NEIGHBOURS)}
        chosen |= {at % len(items) for at in range(number + 1, number + 1 + NEIGHBOURS)}
        alikes = (
            alike(len(grams & known[at]), len(grams), len(known[at]))
            for at in chosen
            if grams and item.peer_of(items[at])
        )
        nearest.append(max(alikes, default=0.0))
    usual = sorted(nearest)[int(PEERS * (len(nearest) - 1))]
    return max(least, usual + (1 - usual) * MARGIN)


def _lsh(items: Mapping[int, frozenset[Gram]]) -> MinHashLSH:
    """Finds the numbers of items that are nearly a row; what it finds is looked at again, so it may find too many."""
    from datasketch import MinHashLSH

    found = MinHashLSH(num_perm=PERMUTATIONS, params=BANDS)
    for number, shingles in items.items():
        found.insert(number, _minhash(shingles))
    return found


@cache
def _blank() -> MinHash:
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, seed=1)


def _minhash(shingles: Iterable[Gram]) -> MinHash:
    found = _blank().copy()  # its permutations are made once
    found.update_batch([" ".join(gram).encode() for gram in shingles])
    return found
