"""Speaker vectors by name: the one list that ablations (`speaker`, `similarity`) and calibrations choose from."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from string import Formatter

from ser.files import DataError

RENAMED = {"hubert": "encoder"}  # names that earlier versions knew
# What is no name for vectors of the config's own: these mean something else, here or among the files of a job.
RESERVED = ("none", "fused", "encoder", "predictions", "enrolment", "enrolment_labels")
MADE_FROM_AUDIO = ("model", "egemaps")  # of each utterance alone, by a job of their own
# The files of a kind, under results/, which hold one vector per speaker; other kinds have the last pattern.
PATTERNS = {
    # what the ablation's head regresses, averaged over the speaker's utterances: the paper's
    "fused": "speaker_vectors/{ablation}/seed-{seed}/{split}.parquet",
    # the last layer of the ablation's encoder, averaged likewise
    "encoder": "encoder_summaries/{encoder}/{split}.parquet",
    "mfcc": "speakers/{split}/shard-{shard}.json",
    "permute": "speakers/{vectors}/{split}/permuted.json",
}
OTHER_PATTERN = "speakers/{vectors}/{split}/shard-{shard}.json"


@dataclass(frozen=True)
class SpeakerVectors:
    """One of `speaker_vectors`; see rules/config.schema.yaml for what the values mean."""

    name: str
    kind: str  # fused, encoder, mfcc, embeddings, egemaps, model, file or permute
    source: str | None = None  # the encoder, the model's hub id or folder, the file, the vectors that are permuted
    layer: int = -1
    revision: str | None = None
    device: str = "auto"
    threads: int = 1

    def list_files(self, **values) -> list[str]:
        """The paths of its files: for each name in their pattern a value, or a list of values."""
        pattern, values = PATTERNS.get(self.kind, OTHER_PATTERN), values | {"vectors": self.name}
        names = [name for _, name, *_ in Formatter().parse(pattern) if name]
        lists = [values[name] if isinstance(values[name], list) else [values[name]] for name in names]
        return [pattern.format(**dict(zip(names, each, strict=True))) for each in product(*lists)]


BUILT_IN = [
    SpeakerVectors("fused", "fused"),
    SpeakerVectors("encoder", "encoder"),
    SpeakerVectors("mfcc", "mfcc"),
    SpeakerVectors("mfcc_permuted", "permute", "mfcc"),
]


def resolve_speaker_vectors(config: dict) -> dict[str, SpeakerVectors]:
    """All speaker vectors by name: those that are always there, then the config's.

    `config` is what `schema.check` returned. Raises DataError, naming the key, for what is no kind of vectors.
    """
    vectors = {each.name: each for each in BUILT_IN}
    for name, given in config.get("speaker_vectors", {}).items():
        where = f"config: speaker_vectors.{name}"
        if name in (*vectors, *RESERVED):
            raise DataError(f"{where}: the name is taken: {name!r} means something of the workflow's own")
        vectors[name] = _read(name, given, where, list(config["encoders"]))
    for name, each in vectors.items():
        if each.kind == "permute":
            known = [n for n, other in vectors.items() if other.kind not in ("fused", "encoder", "permute")]
            _expect(f"config: speaker_vectors.{name}: permute", each.source, known)
    return vectors


def _read(name: str, given: dict, where: str, encoders: list[str]) -> SpeakerVectors:
    kinds = [key for key in ("features", "model", "file", "permute") if given[key] is not None]
    if len(kinds) != 1:
        said = f"; it has {', '.join(kinds)}" if kinds else ""
        raise DataError(f"{where}: needs one of features, model, file and permute{said}")
    kind = kinds[0]
    source = given[kind]
    if kind == "features":
        kind, source = source, given["encoder"]
    apply = {
        "embeddings": ("encoder", "layer"),
        "egemaps": ("threads",),
        "model": ("revision", "device", "threads"),
    }.get(kind, ())
    defaults = {"encoder": None, "layer": -1, "revision": None, "device": "auto", "threads": 1}
    for key, default in defaults.items():
        if key not in apply and given[key] != default:
            raise DataError(f"{where}: {key} has no meaning for {kind}")
    if kind == "embeddings":
        source = source or encoders[0]
        _expect(f"{where}: encoder", source, encoders)
    options = {key: given[key] for key in ("layer", "revision", "device", "threads")}
    return SpeakerVectors(name, kind, source, **options)


def find_origin(name: str, vectors: dict[str, SpeakerVectors]) -> SpeakerVectors:
    """The vectors of a name; of permuted ones those that they are made of."""
    return vectors[vectors[name].source] if vectors[name].kind == "permute" else vectors[name]


def list_models(vectors: dict[str, SpeakerVectors]) -> dict[str, dict]:
    """The speaker models, as the index digests encoders: by a name that no encoder has."""
    return {
        name_model(name): {"base": each.source, "revision": each.revision, "where": f"speaker_vectors.{name}.model"}
        for name, each in vectors.items()
        if each.kind == "model"
    }


def name_model(vectors: str) -> str:
    return f"speaker_vectors~{vectors}"


def check_named(where: str, name: str, vectors: Iterable[str], *others: str) -> None:
    """Raise DataError, beginning with `where`, for a name that is none of the vectors, nor of `others`."""
    _expect(where, name, [*others, *vectors])


def _expect(where: str, value: str, allowed: list[str]) -> None:
    if value not in allowed:
        renamed = f"; it is called {RENAMED[value]!r} now" if value in RENAMED else ""
        raise DataError(f"{where} is {value!r}, expected one of {', '.join(allowed)}{renamed}")


def check_installed(kinds: Iterable[str]) -> None:
    """Raise DataError where a kind of vectors needs what is not installed."""
    if "egemaps" in kinds and importlib.util.find_spec("opensmile") is None:
        raise DataError(
            "speaker_vectors: egemaps needs opensmile, which is not installed: pip install -r "
            "envs/requirements-egemaps.txt (audEERING's research licence, no commercial use)"
        )
