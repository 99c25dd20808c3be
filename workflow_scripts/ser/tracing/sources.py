"""Which library modules a script uses, so that the workflow can depend on exactly those."""

import ast
import functools
import os
from collections.abc import Iterable
from pathlib import Path

from ser.files import sha256

_LIBRARY = Path(__file__).parents[1]


@functools.cache
def find_imports(source: Path) -> frozenset[Path]:
    """The modules of this library that a file imports itself."""
    names = set()
    for node in ast.walk(ast.parse(source.read_bytes(), str(source))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parts = (name.split(".") for name in names)
    paths = {_LIBRARY.joinpath(*part[1:]).with_suffix(".py") for part in parts if part[0] == _LIBRARY.name and part[1:]}
    return frozenset(path for path in paths if path.is_file())


def find_sources(script: Path) -> list[str]:
    """A script and the library modules that it imports, transitively: sorted, relative to the working folder."""
    found, open_ends = set(), {script}
    while open_ends:
        found |= open_ends
        open_ends = {module for source in open_ends for module in find_imports(source)} - found
    return sorted(os.path.relpath(path) for path in found)


def digest_files(paths: Iterable[str | Path]) -> list[str]:
    """A line a file with its name and the start of its content's SHA-256: the same wherever the files lie."""
    return [f"{Path(path).name} {sha256(path)[:16]}" for path in paths]
