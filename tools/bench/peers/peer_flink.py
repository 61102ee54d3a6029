"""Flink SQL (mini cluster in one JVM, 8 GB heap).  Variants: idiomatic (HOP table function, streaming mode), idiomatic_batch, scan (source
only).  The wheel has no Parquet format, and its CSV and JSON sources do not split one file: before the measurement records are dealt out in turn
to two files, both in the order of time.
WATERMARK FOR ts AS ts (strictly ascending) loses records: one that has the same millisecond as the last of a window comes after the window has
fired; hence the millisecond taken off.  Times are cut to milliseconds, which moves no record of these data across a second."""
import glob
import importlib.util
import os
import subprocess
import sys
import peerlib

a = peerlib.Task()
here = os.path.dirname(os.path.abspath(__file__))
pf = os.path.join(os.path.dirname(importlib.util.find_spec("pyflink").origin))
lib = os.path.join(pf, "lib", "*")
data = os.path.abspath(os.path.dirname(a.path))
cls = os.path.join(data, "flink_classes")
spill = os.path.abspath(a.spill)


def prepare():
    if not glob.glob(os.path.join(cls, "*.class")):
        os.makedirs(cls, exist_ok=True)
        subprocess.check_call(["javac", "-nowarn", "-cp", lib, "-d", cls, os.path.join(here, "FlinkBench.java")])
    folder = os.path.join(data, "l2_json" if a.workload == "L2" else "h1_csv")
    if os.path.isdir(folder):
        return
    os.makedirs(folder + ".new", exist_ok=True)
    if a.workload == "L2":
        parts = [open(os.path.join(folder + ".new", f"part{i}.json"), "wb", buffering=1 << 22) for i in range(2)]
        for i, line in enumerate(open(a.path, "rb", buffering=1 << 22)):
            parts[i & 1].write(line)
    else:
        import numpy as np
        import pyarrow as pa
        import pyarrow.csv as pc
        import pyarrow.parquet as pq
        parts = [open(os.path.join(folder + ".new", f"part{i}.csv"), "wb") for i in range(2)]
        for b in pq.ParquetFile(a.path).iter_batches(batch_size=1_000_000):
            ms = b.column(0).to_numpy().astype("datetime64[us]").astype(np.int64) // 1000
            for i in range(2):
                t = pa.table({"ms": ms[i::2], "key": b.column(1).to_numpy()[i::2], "value": b.column(2).to_numpy()[i::2]})
                pc.write_csv(t, parts[i], pc.WriteOptions(include_header=False))
    for f in parts:
        f.close()
    os.rename(folder + ".new", folder)


w, v = a.w, a.variant
L, S = w["length"], w["slide"]
sqls = []
if a.workload in ("H1", "H3"):
    sqls.append(f"CREATE TABLE src (ms BIGINT, `key` BIGINT, `value` DOUBLE, ts AS TO_TIMESTAMP_LTZ(ms, 3), WATERMARK FOR ts AS ts - INTERVAL '0.001' SECOND) WITH ('connector'='filesystem','path'='file://{data}/h1_csv','format'='csv')")
    aggs = "MIN(`value`) mn, MAX(`value`) mx" if a.workload == "H3" else "COUNT(*) cnt, SUM(`value`) sm, AVG(`value`) av"
    cols = "wend TIMESTAMP(3), `key` BIGINT, " + ("mn DOUBLE, mx DOUBLE" if a.workload == "H3" else "cnt BIGINT, sm DOUBLE, av DOUBLE")
    raw = "CAST(ts AS TIMESTAMP(3)), `key`, `value`"
    rawc = "ts TIMESTAMP(3), `key` BIGINT, `value` DOUBLE"
else:
    sqls.append(f"CREATE TABLE src (ts TIMESTAMP_LTZ(3), path STRING, status INT, bytes BIGINT, latency_ms DOUBLE, `key` AS path, WATERMARK FOR ts AS ts - INTERVAL '0.001' SECOND) WITH ('connector'='filesystem','path'='file://{data}/l2_json','format'='json','json.timestamp-format.standard'='ISO-8601')")
    aggs = "COUNT(*) cnt, SUM(bytes) sm, COUNT(*) FILTER (WHERE status >= 500) err, AVG(latency_ms) lat"
    cols = "wend TIMESTAMP(3), `key` STRING, cnt BIGINT, sm BIGINT, err BIGINT, lat DOUBLE"
    raw = "CAST(ts AS TIMESTAMP(3)), path, status, bytes, latency_ms"
    rawc = "ts TIMESTAMP(3), path STRING, status INT, bytes BIGINT, latency_ms DOUBLE"
if a.sink == "csv":
    con = f"'connector'='filesystem','path'='file://{os.path.abspath(a.out)}','format'='csv','sink.rolling-policy.file-size'='4GB','sink.rolling-policy.rollover-interval'='1 h'"
else:
    con = "'connector'='blackhole'"
if v == "scan":
    sqls += [f"CREATE TABLE bh ({rawc}) WITH ('connector'='blackhole')", f"INSERT INTO bh SELECT {raw} FROM src"]
else:
    sqls += [f"CREATE TABLE res ({cols}) WITH ({con})",
             f"INSERT INTO res SELECT CAST(window_end AS TIMESTAMP(3)), `key`, {aggs} FROM TABLE(HOP(TABLE src, DESCRIPTOR(ts), INTERVAL '{S}' SECOND, INTERVAL '{L // 60}' MINUTE)) GROUP BY window_start, window_end, `key`"]
if a.prepare:
    prepare()
    sys.exit(0)
fn = os.path.join(spill, "q.sql")
open(fn, "w").write(";\n".join(sqls) + ";\n")
opens = [x for p in ("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks", "java.text", "java.time", "sun.nio.ch") for x in ("--add-opens", f"java.base/{p}=ALL-UNNAMED")]
sys.exit(subprocess.call(["java", "-Xmx8g", f"-Djava.io.tmpdir={spill}", *opens, "-cp", cls + ":" + lib, "FlinkBench", fn, "batch" if "batch" in v else "stream", str(a.threads)]))
