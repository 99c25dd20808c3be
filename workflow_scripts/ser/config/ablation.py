"""An ablation: one row of the study, with everything that decides its models."""

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Ablation:
    """One of `ablations`; see rules/config.schema.yaml for what the values mean."""

    encoder: str
    speaker: str = "none"
    fusion: str = "none"
    normalise: str | None = None  # the speaker's own mean or mean and spread taken off the features
    enrolment: int | None = None  # so many other utterances of the speaker say which; None has all of the speaker's
    attended: int | None = None  # with fusion attention, the other utterances of the speaker that one looks at
    permuted: bool | None = None  # a control: normalised by, or looking at, another speaker's utterances
    head: str = "mlp"
    layer: str | int | None = None  # "weighted" or a layer's number; None of a head that reads frames
    outputs: str = "joint"
    weighting: str = "none"
    similarity: str = "mfcc"  # the speaker vectors that similar-speaker weighting compares
    neighbours: int = 10
    strength: float = 1
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

    @property
    def hears_all(self) -> bool:
        """Whether it needs all audio of a test speaker."""
        whole = self.normalise is not None and self.enrolment is None
        return self.reads_speakers or whole or self.weighting != "none"

    @property
    def enrols(self) -> bool:
        """Whether it needs a few other utterances of a test speaker."""
        return bool(self.enrolment or self.attended)

    def describe_speaker(self) -> str:
        """What it knows of the speaker, for tables."""
        parts = [self.speaker] if self.speaker != "none" else []
        if self.normalise:
            parts.append(f"normalised by {self.normalise}{f' of {self.enrolment} others' if self.enrolment else ''}")
        if self.attended:
            parts.append(f"{self.attended} other utterances")
        return "; ".join(parts + ["another speaker's"] * bool(self.permuted)) or "none"
