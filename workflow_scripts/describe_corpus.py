"""Tables of all utterances and of those set aside, for people."""

from ser import log
from ser.corpus.metadata import describe_corpus

log.to_file(snakemake.log[0])
describe_corpus(
    facts_paths=snakemake.input.facts,
    labels_paths=snakemake.input.labels,
    utterances_path=snakemake.output.utterances,
    rejected_path=snakemake.output.rejected,
    folder=snakemake.params.folder,
)
