"""The encoders of a checked config, each with everything that decides its weights."""

from ser.files import DataError


def resolve_encoders(config: dict) -> dict[str, dict]:
    """The encoders by name, each with everything that decides its weights; keys that do not apply are left out.

    `config` is what `check` returned. Raises DataError, naming the encoder, for what does not exist or makes no sense.
    """
    plain = [name for name, encoder in config["encoders"].items() if encoder["adaptation"] != "papt"]
    splits = ["train", "validation", *config["corpus"]["test_splits"]]
    trained = {  # the first of each base speaks for those that say nothing
        (encoder["base"], encoder["revision"]): encoder["trained_on"]
        for encoder in reversed(config["encoders"].values())
        if encoder.get("trained_on")  # results of earlier versions have a config without
    }
    encoders = {}
    for name, given in config["encoders"].items():
        where = f"config: encoders.{name}"
        origin = given.get("base"), given.get("revision")
        encoder = given | {"trained_on": given.get("trained_on") or trained.get(origin)}
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
        if config["corpus"]["layout"] == "csv" or config["corpus"]["speaker_splits"]:
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
