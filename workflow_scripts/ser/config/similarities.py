"""By what calibration can compare speakers: kinds of speaker vectors, and the files that hold them."""

from dataclasses import dataclass
from itertools import product
from string import Formatter


@dataclass(frozen=True)
class Similarity:
    """A kind of speaker vectors; its files, under results/, hold one vector per speaker."""

    pattern: str
    column: str | None = None  # of a Parquet file; the vectors in a JSON file go by the similarity's name
    first: int = 0  # values of a vector before this one are not compared

    @property
    def by_seed(self) -> bool:
        return "{seed}" in self.pattern

    def list_files(self, **values) -> list[str]:
        """The pattern's paths: a value for each of its names, or a list of values."""
        names = [name for _, name, *_ in Formatter().parse(self.pattern) if name]
        lists = [values[name] if isinstance(values[name], list) else [values[name]] for name in names]
        return [self.pattern.format(**dict(zip(names, each, strict=True))) for each in product(*lists)]


SIMILARITIES = {
    # what the ablation's head regresses, averaged over the speaker's utterances: the paper's
    "fused": Similarity("speaker_vectors/{ablation}/seed-{seed}/{split}.parquet", "vector"),
    # the last layer of the ablation's encoder, averaged likewise
    "encoder": Similarity("encoder_summaries/{encoder}/{split}.parquet", "mean"),
    # without c0, which is the level of the recording and nine tenths of the squared length: a gain changes no other
    "mfcc": Similarity("speakers/{split}/shard-{shard}.json", first=1),
}
