"""An ablation: one row of the study, with everything that decides its models."""

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Ablation:
    """One of `ablations`; see rules/config.schema.yaml for what the values mean."""

    encoder: str
    speaker: str = "none"
    fusion: str = "none"
    head: str = "mlp"
    layer: str | int | None = None  # "weighted" or a layer's number; None of a head that reads frames
    outputs: str = "joint"
    weighting: str = "none"
    neighbours: int = 10
    strength: float = 1.0
    units: list | dict | None = None  # sizes of the head
    training: dict | None = None
    finetune: dict | None = None  # how its encoder is trained with the head; None leaves it as it is
    tuned: dict | None = None  # the `ablation` whose best settings it takes, and the `grid` that decides them

    @classmethod
    def read(cls, values: dict) -> "Ablation":
        """From what `to_dict` gave, be it an older version's, with keys that this one does not have."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def to_dict(self) -> dict:
        """For params and JSON: in one order, without what does not apply."""
        return {key: value for key, value in sorted(asdict(self).items()) if value is not None}

    @property
    def features(self) -> str:
        """The kind of artefact that its head reads: `frames`, or `embeddings` (averaged over time)."""
        return "frames" if self.reads_frames else "embeddings"

    @property
    def reads_frames(self) -> bool:
        return self.head == "transformer"

    @property
    def reads_speakers(self) -> bool:
        """Whether its head has an input for a speaker vector."""
        return self.speaker != "none"
