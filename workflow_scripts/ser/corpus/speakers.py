"""Who is who: names that name nobody, and two spellings that may be one speaker."""

import re
import unicodedata
from collections.abc import Iterable

from ser.text import shorten

_SEPARATORS = r"[\s_-]+"
_BETWEEN_DIGITS = re.compile(rf"(?<=\d){_SEPARATORS}(?=\d)")
_ELSEWHERE = re.compile(_SEPARATORS)
_LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
_WHOLE_NUMBER = re.compile(r"(\d+)\.0*")


def names_nobody(name: str, unknown: set[str]) -> bool:
    """Whether an id is one of `unknown` (in lower case), or nothing but hyphens and question marks, if that."""
    return name.casefold() in unknown or not name.strip("-–—?")


def fold_name(name: str) -> str:
    """What is left of an id without that in which spellings of one differ.

    Case, forms of Unicode, zeros before a number, `.0` after one, and spaces, underscores and hyphens, but for those
    that keep two numbers apart: `Spk_01`, `spk 1` and `SPK-1` are one, `1_10` and `11_0` are two.
    """
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    if found := _WHOLE_NUMBER.fullmatch(text):
        text = found[1]
    text = _BETWEEN_DIGITS.sub("\0", text)
    return _LEADING_ZEROS.sub("", _ELSEWHERE.sub("", text))


def find_alike(places: dict[str, str], differ: list[str] | bool) -> list[str]:
    """A problem for each id that another one differs from in its spelling alone.

    Args:
        places: where each id stands first, in words
        differ: ids that are speakers of their own however alike they look; True for all
    """
    if differ is True:
        return []
    first: dict[str, str] = {}
    problems = []
    for name in places:
        other = first.setdefault(fold_name(name), name)
        if other != name and not {name, other}.intersection(differ or ()):
            problems.append(
                f"{places[name]}: speaker {shorten(name)} may be {shorten(other)} of {places[other]}: give a speaker "
                f"one spelling, or list {shorten(name)} in corpus.speakers_differ if these are two people"
            )
    return problems


def match_names(wanted: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """The known id that each wanted one is: the same, or the only one that is spelled alike."""
    known = list(known)
    alike: dict[str, list[str]] = {}
    for name in known:
        alike.setdefault(fold_name(name), []).append(name)
    matched = {name: name for name in known}
    for name in set(wanted) - set(known):
        if name and len(found := alike.get(fold_name(name), [])) == 1:
            matched[name] = found[0]
    return matched
