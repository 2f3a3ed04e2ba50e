"""Runs Millstream: the engine in one process, as `engine run` starts it."""
import json
import re
import subprocess

import processes

# A file is read by one subtask, as in Flink; so the files must not be divided.
SOURCE_OPTIONS = ", 'source.split-size' = '1tb'"


class Failed(Exception):
    """The engine refused a script, or failed; the message says why."""


def run(engine, script, folder, settings):
    """Runs a script to its end. Returns the time that the engine reports, from the start of the job to its end, and the
    CPU seconds and peak memory of the whole process."""
    summary_file, errors_file = folder / "summary.json", folder / "errors"
    command = [engine, "run", script, "--data-dir", folder / "state", "--summary", summary_file,
               "--parallelism", settings["PARALLELISM"], "--checkpoint-interval", settings["CHECKPOINT_INTERVAL"],
               "--memory", settings["MEMORY"]]
    with open(errors_file, "w") as errors:
        code, _, cpu, peak = processes.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           stderr=errors)
    if code != 0:
        error = re.search(r"^error: (?:\S+:\d+:\d+: )?(.*)", errors_file.read_text(), re.M)
        raise Failed(error[1] if error else f"the engine ended with code {code}; see {errors_file}")
    summary = json.loads(summary_file.read_text())
    return {
        "seconds": summary["seconds"],
        "cpu_seconds": cpu,
        "peak_bytes": peak,
        "checkpoints": summary["checkpoints"],
        "rows_in": summary["rows_in"],
        "rows_out": summary["rows_out"],
    }
