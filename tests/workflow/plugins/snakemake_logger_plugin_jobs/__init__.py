"""A logger plugin of Snakemake that writes the jobs of a run, planned or carried out, to a file: a JSON line a job."""

import json
import os

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


class LogHandler(LogHandlerBase):
    writes_to_stream = writes_to_file = needs_rulegraph = False
    has_filter = has_formatter = True  # neither: every record is wanted

    def emit(self, record):
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            job = {"rule": record.rule_name, "wildcards": dict(record.wildcards), "reason": record.reason}
            with open(os.environ["JOBS_FILE"], "a", encoding="utf-8") as file:
                file.write(json.dumps(job) + "\n")
