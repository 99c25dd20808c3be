"""Texts of a config that stand for a number, a switch or nothing, where the schema wants these.

YAML reads `1e-3` as text, and Snakemake passes every value inside a list or a dictionary of --config on as text.
"""

import re

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_WORDS = {"true": True, "false": False}


def convert(value, schema: dict, definitions: dict):
    """A copy of a value in which texts are what its part of the schema wants; what does not fit stays as it is.

    Args:
        definitions: `$defs` of the whole schema, to which `$ref` leads
    """
    parts = _spread(schema, definitions)
    if isinstance(value, dict):
        return {key: convert(item, {"allOf": _find_item(parts, key)}, definitions) for key, item in value.items()}
    if isinstance(value, list):
        items = [part["items"] for part in parts if "items" in part]
        return [convert(item, {"allOf": items}, definitions) for item in value]
    kinds = {kind for part in parts for kind in _list_kinds(part)}
    if isinstance(value, float) and value.is_integer() and "integer" in kinds:
        return int(value)
    if not isinstance(value, str):
        return value
    if "null" in kinds and value == "null":
        return None
    if "string" in kinds:
        return value
    if "boolean" in kinds:
        return _WORDS.get(value.lower(), value)
    if kinds & {"integer", "number"} and len(value) < 100 and _NUMBER.fullmatch(value):
        return int(value) if value.lstrip("+-").isdigit() else convert(float(value), schema, definitions)
    return value


def _spread(schema: dict, definitions: dict) -> list[dict]:
    """A schema and all those that it is put together of."""
    parts = [schema]
    if "$ref" in schema:
        parts += _spread(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for key in ("allOf", "oneOf", "anyOf"):
        for part in schema.get(key, ()):
            parts += _spread(part, definitions)
    return parts


def _find_item(parts: list[dict], key: str) -> list[dict]:
    """The schemas of a key's value."""
    own = [part["properties"][key] for part in parts if key in part.get("properties", {})]
    others = [part.get("additionalProperties") for part in parts]
    return own or [other for other in others if isinstance(other, dict)]


def _list_kinds(part: dict) -> list[str]:
    kinds = part.get("type", [])
    return kinds if isinstance(kinds, list) else [kinds]
