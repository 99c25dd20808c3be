"""The config: checked against the schema, defaults filled in, ablations resolved."""

import difflib
from pathlib import Path

import jsonschema
import yaml

from ser.files import DataError

RENAMED = {"hubert": "encoder"}  # values that earlier versions knew


def check(config: dict, schema_path: str | Path) -> dict:
    """Fill in the schema's defaults and check every key and value.

    Raises DataError that names each offending key, its value and what is allowed.
    """
    schema = yaml.safe_load(Path(schema_path).read_text(encoding="utf-8"))
    config = _fill(config, schema)
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(config), key=lambda error: error.json_path)
    if errors:
        raise DataError("\n".join(_explain(error) for error in errors))
    return config


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
    renamed = (
        f"; it is called {RENAMED[error.instance]!r} now"
        if error.validator == "enum" and error.instance in RENAMED
        else ""
    )
    return f"config: {where}: {error.message}{renamed}"
