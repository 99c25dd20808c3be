"""Text of others: what a name may be, and how it is shown to people and pasted into shells, tables and pages."""

import re

LONGEST = 500  # characters of a name: a file system takes fewer in each part of a path

# Control characters of both kinds, lone halves of a surrogate pair, what ends a line, and what turns its direction.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_SHOWN_AS_IS = "\n"
_MARKUP = re.compile(r"([\\`*_\[\]|#])")


def find_fault(name: str, longest: int = LONGEST) -> str | None:
    """What is wrong with the name of a speaker, a file or a folder; None for one that can be used."""
    if not name:
        return "is empty"
    if len(name) > longest:
        return f"has {len(name):,} characters, expected {longest} at most"
    if found := _UNFIT.search(name):
        return f"has the character U+{ord(found[0]):04X}, which is no part of a name"
    return None


def shorten(text: str) -> str:
    """A name as an error quotes it."""
    return repr(text if len(text) <= LONGEST else text[:LONGEST] + "...")


def clean(text: str) -> str:
    r"""Text for a terminal: what would move the cursor, colour or turn the text is spelled out, as in `\x1b`."""

    def spell(found: re.Match) -> str:
        return found[0] if found[0] in _SHOWN_AS_IS else found[0].encode("unicode_escape", "surrogatepass").decode()

    return _UNFIT.sub(spell, text)


def escape_markdown(value) -> str:
    """A value in a line of Markdown: shown as it is, neither markup nor HTML."""
    text = clean(str(value)).replace("\n", " ")
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return _MARKUP.sub(r"\\\1", text)
