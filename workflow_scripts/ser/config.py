"""The config: checked against the schema, defaults filled in, ablations resolved."""

import difflib
from pathlib import Path

import jsonschema
import yaml

from ser.files import DataError


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
    return f"config: {where}: {error.message}"


def resolve_ablations(config: dict) -> dict[str, dict]:
    """The ablations by name, each with everything that decides its model: `{name: {encoder, speaker, ..., training}}`.

    `config` is what `check` returned. Raises DataError for combinations that make no sense, naming the ablation.
    """
    ablations: dict[str, dict] = {}
    for given in config["ablations"]:
        name = given["name"]
        where = f"config: ablations: {name!r}"
        if name in ablations:
            raise DataError(f"{where} is there twice")
        ablation = {key: value for key, value in given.items() if key != "name"}
        ablation["encoder"] = ablation.get("encoder", next(iter(config["encoders"])))
        if ablation["encoder"] not in config["encoders"]:
            raise DataError(
                f"{where}: encoder {ablation['encoder']!r} is not under encoders: {', '.join(config['encoders'])}"
            )
        if (ablation["speaker"] == "none") != (ablation["fusion"] == "none"):
            raise DataError(
                f"{where}: speaker is {ablation['speaker']!r} but fusion is {ablation['fusion']!r}; "
                "either both are 'none' or neither is"
            )
        if ablation["head"] == "transformer":
            if "layer" in ablation:
                raise DataError(
                    f"{where}: a transformer head reads the frames of encoders.{ablation['encoder']}.frames_layer; "
                    "leave out layer"
                )
        else:
            ablation.setdefault("layer", "weighted")
        ablation["features"] = "frames" if ablation["head"] == "transformer" else "embeddings"
        ablation["units"] = config["heads"][ablation["head"]]
        ablation["training"] = config["training"] | ablation.get("training", {})
        ablations[name] = dict(sorted(ablation.items()))  # in whatever order the file has them: that is no change
    if config["baseline"] not in ablations:
        raise DataError(f"config: baseline: {config['baseline']!r} is none of the ablations: {', '.join(ablations)}")
    return ablations
