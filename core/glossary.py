"""The field's terms as this project uses them: a sentence, the formula, the source, the function that computes it.

They are written in `glossary.toml`. Standard library only. A term that is older than any one paper has the textbook in
which it is defined as it is meant here.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """term : as a heading writes it; text : one plain sentence or two; formula : LaTeX, without dollar signs

    source : "Author (year)", several joined by "; "; function : that computes it, a dotted name in core
    also : other names of the same thing
    """

    term: str
    text: str
    formula: str
    source: str
    function: str
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "also", tuple(self.also))


TOPICS: dict[str, tuple[Entry, ...]] = {
    topic: tuple(Entry(**entry) for entry in entries)
    for topic, entries in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()
}
"""All terms by topic, in the order of the pages."""

ENTRIES: tuple[Entry, ...] = tuple(entry for topic in TOPICS.values() for entry in topic)

_NAMES = {name.lower(): entry for entry in ENTRIES for name in (entry.term, *entry.also)}


def find(name: str) -> Entry:
    """The entry of a term, by one of its names, whatever the capitals. Raises KeyError where there is none."""
    return _NAMES[name.lower()]


def matching(words: str) -> dict[str, list[Entry]]:
    """By topic, the entries that hold all these words in their names, their text or their source, the one of that name
    first; topics that have none are left out."""
    wanted, named = words.lower().split(), _NAMES.get(words.lower().strip())

    def holds(entry: Entry) -> bool:
        text = " ".join((entry.term, *entry.also, entry.text, entry.source)).lower()
        return all(word in text for word in wanted)

    held = {topic: list(filter(holds, entries)) for topic, entries in TOPICS.items()}
    ranked = {topic: sorted(each, key=lambda entry: entry is not named) for topic, each in held.items() if each}
    return dict(sorted(ranked.items(), key=lambda topic: named not in topic[1]))
