"""What the peers' scripts share: the task, given by the harness as one JSON object, and the line RESULT that they print.

A script reads `path`, runs the query of `variant`, and writes the answer to `out` (sink `parquet` or `csv`) or drops it (sink
`dropped`: every row is built, kept in memory where the peer knows no other way, and counted). The harness measures the whole
process and checks what was written."""
import json
import sys
import time

T0 = 1704067200  # the first second of the data: 2024-01-01T00:00:00Z


class Task:
    def __init__(self):
        w = json.loads(sys.argv[1])
        self.w, self.workload, self.variant = w, w["workload"], w["variant"]
        self.path, self.sink, self.out, self.spill = w["path"], w["sink"], w["out"], w["spill"]
        self.threads, self.prepare = w["threads"], w["prepare"]
        self.mm = w["aggs"][:3] == ["wend", "key", "mn"] or w["aggs"] == ["mn", "mx"]
        self.csa = "av" in w["aggs"]


def result(**kw):
    print("RESULT " + json.dumps(kw), flush=True)


def timed(fn):
    """Runs fn; what it returns, and the seconds."""
    t = time.perf_counter()
    out = fn()
    return out, round(time.perf_counter() - t, 4)
