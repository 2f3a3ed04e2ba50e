"""The queries of Nexmark as scripts for either engine, and the events that both read."""
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "nexmark"
# In the order of their numbers; `source` reads every column and keeps nothing.
QUERIES = ["source", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q7-window", "q8", "q9", "q10", "q11", "q12",
           "q13", "q13-join", "q14", "q15", "q16", "q16-window", "q17", "q18", "q19", "q20", "q21", "q22", "q23"]
BLACKHOLE = "'connector' = 'blackhole'"
SIDE_INPUT_ROWS = 10_000


class Events:
    """Events of our generator in files of JSON lines, one per subtask of a source, whose event times interleave."""

    def __init__(self, cache, number, rate, parallelism):
        self.number = number
        self.folder = cache / "nexmark-events" / f"{number}-at-{rate}-in-{parallelism}"
        self.side_input = self.folder / "side_input.csv"
        self.rate, self.parallelism = rate, parallelism

    @property
    def files(self):
        return self.folder / "events"

    def write(self, engine):
        """Writes the events with the engine, unless they are there."""
        if self.folder.is_dir():
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=self.folder.parent))
        columns = re.search(r"CREATE TABLE nexmark \(.*?(?=,\s+`dateTime` AS)", ddl(), re.S)[0]
        script = temporary / "events.sql"
        script.write_text(f"""{columns}) WITH ('connector' = 'nexmark', 'events.num' = '{self.number}',
  'first-event.rate' = '{self.rate}', 'next-event.rate' = '{self.rate}', 'nexmark.splits' = '{self.parallelism}');
CREATE TABLE events WITH ('connector' = 'filesystem', 'path' = '{temporary}/events', 'format' = 'json',
  'sink.rolling-policy.file-size' = '1tb', 'sink.rolling-policy.rollover-interval' = '1 d')
AS SELECT * FROM nexmark;
""")
        subprocess.run([engine, "run", script, "--parallelism", str(self.parallelism), "--checkpoint-interval", "1h",
                        "--data-dir", temporary / "state"], check=True, stderr=subprocess.DEVNULL)
        shutil.rmtree(temporary / "state")
        rows = (f"{number},{number}\n" for number in range(SIDE_INPUT_ROWS))
        (temporary / "side_input.csv").write_text("".join(rows))
        temporary.rename(self.folder)


def ddl():
    return (FOLDER / "ddl.sql").read_text()


def query(name):
    path = FOLDER / f"{name}.sql"
    # Queries that Millstream refuses so far are in a folder of their own.
    return (path if path.exists() else FOLDER / "refused" / f"{name}.sql").read_text()


def script(name, events, output, source_options="", sink=BLACKHOLE):
    """Returns a query over files of events. `output` is the folder of what it writes, if it writes files."""
    source = f"'connector' = 'filesystem', 'path' = '{events.files}', 'format' = 'json'{source_options}"
    # A function, since a replacement text would be searched for backslashes.
    tables, changed = re.subn(r"(?<=\) WITH \().*?(?=\);)", lambda _: source, ddl(), count=1, flags=re.S)
    assert changed == 1, "the table of the generator has changed"
    statements = query(name).replace(BLACKHOLE, sink)
    return (tables + statements).replace("${OUT}", str(output)).replace("${SIDE_INPUT}", str(events.side_input))
