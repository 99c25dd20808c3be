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


def resolve_encoders(config: dict) -> dict[str, dict]:
    """The encoders by name, each with everything that decides its weights; keys that do not apply are left out.

    `config` is what `check` returned. Raises DataError, naming the encoder, for what does not exist or makes no sense.
    """
    plain = [name for name, encoder in config["encoders"].items() if encoder["adaptation"] != "papt"]
    splits = ["train", "validation", *config["corpus"]["test_splits"]]
    encoders = {}
    for name, given in config["encoders"].items():
        where = f"config: encoders.{name}"
        encoder = dict(given)
        own = {key: encoder.pop(key, None) for key in ("pseudo_labels", "similarity", "pretraining")}
        if encoder["adaptation"] == "none":
            for key in ("position", "splits", "neighbours"):
                encoder.pop(key)
            given_too = [key for key, value in own.items() if value is not None]
            if given_too:
                raise DataError(f"{where}: {given_too[0]} has no meaning with adaptation none")
            encoders[name] = encoder
            continue
        encoder["pseudo_labels"] = own["pseudo_labels"] or next(iter(config["pseudo_labels"]))
        encoder["pretraining"] = config["pretraining"] | (own["pretraining"] or {})
        _expect(where, "pseudo_labels", encoder["pseudo_labels"], list(config["pseudo_labels"]))
        if config["corpus"]["layout"] == "csv":
            for split in encoder["splits"]:
                _expect(where, "splits", split, splits)
        if encoder["adaptation"] == "papt":
            if not plain:
                raise DataError(
                    f"{where}: speakers without a vector are compared by the features of an encoder without papt; "
                    "add one to encoders (adaptation none, the same base)"
                )
            encoder["similarity"] = own["similarity"] or plain[0]
            _expect(where, "similarity", encoder["similarity"], plain)
        encoders[name] = encoder
    for name, labels in config["pseudo_labels"].items():
        if labels["features"] == "layer":
            _expect(f"config: pseudo_labels.{name}", "encoder", labels.get("encoder"), plain)
    for name in encoders:
        find_ancestry(name, encoders, config["pseudo_labels"])
    return encoders


def find_ancestry(name: str, encoders: dict[str, dict], pseudo_labels: dict[str, dict]) -> list[str]:
    """An encoder, then the one whose layer its pseudo-labels are clusters of, that one's, and so on.

    Raises DataError where an encoder would have to learn from itself.
    """
    ancestry = [name]
    while encoders[ancestry[-1]]["adaptation"] != "none":
        labels = pseudo_labels[encoders[ancestry[-1]]["pseudo_labels"]]
        if labels["features"] == "mfcc":
            break
        if labels["encoder"] in ancestry:
            raise DataError(
                f"config: encoders.{name}: would have to learn from itself: its pseudo-labels are of a layer of "
                f"{' <- '.join([*ancestry[1:], labels['encoder']])}"
            )
        ancestry.append(labels["encoder"])
    return ancestry


def _expect(where: str, key: str, value: str | None, allowed: list[str]) -> None:
    if value not in allowed:
        raise DataError(f"{where}: {key} is {value!r}, expected one of {', '.join(allowed)}")


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
