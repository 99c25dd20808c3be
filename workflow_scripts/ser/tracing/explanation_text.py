"""A cell's provenance as text for people."""

import textwrap
from collections.abc import Iterator

import yaml

_SHOWN = 5  # neighbours of a speaker
_PACKAGES = ("snakemake", "numpy", "scipy", "pyarrow", "torch", "transformers", "tensorflow", "keras", "soundfile")
_SAME_VALUES = 1e-4  # calibrated predictions, of the order of 1, are stored as float32
_WIDTH = 110


def format_explanation(explained: dict) -> str:
    """The result of `explanation.explain_cell`, section by section; its JSON has what is left out here."""
    return "\n".join(_lines(explained))


def _lines(explained: dict) -> Iterator[str]:
    yield " · ".join(explained["cell"].values())
    figures = dict(explained["figures"])
    for metric in ("o_ccc", "a_ccc", "delta_a_ccc", "delta_o_ccc"):
        low, high = figures.pop(f"{metric}_low", None), figures.pop(f"{metric}_high", None)
        if metric in figures and low:
            figures[metric] += f"  [{low}, {high}]"
    yield from _block("Figures", figures)
    if explained["differences"]:
        yield "  NOT what the predictions and labels give now: run snakemake, then ask again"
        for name, (old, new) in explained["differences"].items():
            yield f"    {name}: {old or 'nothing'} in the table, now {new}"
    else:
        yield "  computed again from the calibrated predictions and labels: the same"
    counts = {split: _join(numbers) for split, numbers in explained["corpus"].items()}
    yield from _block("Corpus", counts | {"left out": _join(explained["left_out"])})
    yield "\nConfig"
    config = yaml.safe_dump(explained["config"], default_flow_style=None, sort_keys=False, width=_WIDTH)
    yield textwrap.indent(config.rstrip(), "  ")
    yield from _block("Encoder", {key: value for key, value in explained["encoder"].items() if key != "origin"})
    for name, card in explained["tuned"].items():
        told = {key: card[key] for key in ("epoch", "validation_ccc", "learned", "weights_sha256")}
        yield from _block(f"Fine-tuned as {name}", told)
    yield "\nFiles (SHA-256)"
    for kind, digests in explained["files"].items():
        yield from (f"  {kind:18} {digest[:16]}  {path}" for path, digest in digests.items())
    if explained["seeds"]:
        yield "\nCalibration"
        for seed in explained["seeds"]:
            yield from _seed_lines(seed)
    yield f"\nCode (SHA-256)  {explained['code_sha256'][:16]}"
    yield textwrap.fill(", ".join(explained["code"]), _WIDTH, initial_indent="  ", subsequent_indent="  ")
    yield from (f"  changed since: {name}" for name in explained["code_changed_since"])
    git, known = explained["git"], explained["packages"]
    yield f"  commit {git['commit']}{', with changes' if git['dirty'] else ''}" if git else "  in no git repository"
    versions = [f"{name} {known[name]}" for name in _PACKAGES if name in known]
    yield f"  Python {explained['python']}, {', '.join(versions)}"
    yield "\nMake what it is computed from"
    yield f"  {explained['command']}"


def _seed_lines(seed: dict) -> Iterator[str]:
    if seed["k"] is None:
        yield f"  seed {seed['seed']}: none, because no speaker has utterances beyond those for enrolment"
        return
    alpha = "" if seed["alpha"] is None else f", alpha {seed['alpha']:g}"
    gate = "" if seed["max_similarity"] is None else f", up to a similarity of {seed['max_similarity']:.4f}"
    yield f"  seed {seed['seed']}: k {seed['k']}{alpha}{gate}, validation A-CCC {seed['a_ccc_on_validation']:.4f}"
    if seed["largest_difference"] is None or seed["largest_difference"] > _SAME_VALUES:
        yield "    NOT the neighbours of the stored predictions: run snakemake, then ask again"
    if "draws" in seed:
        yield f"    the first of {seed['draws']} draws:"
    for speaker in seed["speakers"]:
        near = [f"{name} {similarity:.4f}" for name, similarity in speaker["neighbours"].items()]
        more = [f"{len(near) - _SHOWN} more"] if len(near) > _SHOWN else []
        yield (
            f"    {speaker['speaker']}: predicted {speaker['predicted_mean']:.2f} ± {speaker['predicted_sd']:.2f}, "
            f"neighbours' labels {speaker['neighbours_label_mean']:.2f} ± {speaker['neighbours_label_sd']:.2f}: "
            + ", ".join(near[:_SHOWN] + more)
        )


def _block(title: str, values: dict) -> Iterator[str]:
    yield f"\n{title}"
    width = max(map(len, values))
    yield from (f"  {name:{width}}  {'none' if value is None else value}" for name, value in values.items())


def _join(counts: dict) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "none"
