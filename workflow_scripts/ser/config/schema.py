"""The config: checked against the schema, defaults filled in, ablations resolved."""

import difflib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import yaml

from ser.config.conversion import convert
from ser.config.plain import check_size
from ser.files import DataError
from ser.text import find_fault, shorten

MOST = 2**32 - 1  # the largest seed that Keras takes; nothing else is that large
LONGEST_PATH = 4096
_PATH = re.compile(r"(^|\.)(folder|audio|sheet|speaker_splits|base|centroids|revision|model|file)$")


def check(config: dict, schema_path: str | Path) -> dict:
    """Fill in the schema's defaults, read texts that stand for numbers as such, and check every key and value.

    Raises DataError that names each offending key, its value and what is allowed.
    """
    schema = yaml.safe_load(Path(schema_path).read_text(encoding="utf-8"))
    check_size(config)
    config = convert(config, schema, schema["$defs"])
    faults = list(_find_faults(config, ""))
    if faults:
        raise DataError("\n".join(faults))
    config = _fill(config, schema)
    errors = sorted(_Validator(schema).iter_errors(config), key=lambda error: error.json_path)
    if errors:
        raise DataError("\n".join(_explain(error) for error in errors))
    return config


def _find_faults(value, where: str) -> Iterator[str]:
    """What no key of any config can be: numbers beyond those of machines, text beyond that of names and paths."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or find_fault(key):
                yield f"config: {where or 'the config'}: {shorten(str(key))} is no key"
            else:
                yield from _find_faults(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _find_faults(item, f"{where}[{number}]")
    elif isinstance(value, str):
        fault = find_fault(value, LONGEST_PATH) if value else None
        if fault is None and _PATH.search(where) and set("{}").intersection(value):
            fault = "has a brace, which Snakemake takes for a wildcard; rename it, or link to it"
        if fault:
            yield f"config: {where}: {shorten(value)} {fault}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"config: {where}: {value} is not a finite number"
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > MOST:
        yield f"config: {where}: {value if abs(value) < 10**40 else 'a number'} is beyond {MOST}"


def _match_whole(validator, pattern: str, value, schema: dict) -> Iterator[jsonschema.ValidationError]:
    """A pattern as JSON Schema means it: in Python `$` is also before a line's end that closes a text."""
    if isinstance(value, str) and not re.search(pattern.replace("$", r"\Z"), value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _match_whole})


def _fill(value, schema: dict):
    """A copy of `value` in which keys that are absent have the schema's default, at every depth."""
    if isinstance(value, dict):
        known = schema.get("properties", {})
        filled = {key: part["default"] for key, part in known.items() if "default" in part} | value
        other = schema.get("additionalProperties")
        parts = {key: known.get(key, other if isinstance(other, dict) else {}) for key in filled}
        return {key: _fill(item, parts[key]) for key, item in filled.items()}
    if isinstance(value, list):
        return [_fill(item, schema.get("items", {})) for item in value]
    return value


def _explain(error: jsonschema.ValidationError) -> str:
    where = error.json_path.removeprefix("$").removeprefix(".") or "the config"
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        lines = []
        for key in sorted(set(error.instance) - set(known)):
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"allowed are {', '.join(known)}"
            lines.append(f"config: {where}: there is no key {key!r}; {hint}")
        return "\n".join(lines)
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return f"config: {where}: needs the key {missing[0]!r}"
    return f"config: {where}: {error.message}"
