"""Spark DStream, reduceByKeyAndWindow with the inverse function (the shape of H1: 1,000 zipf keys, window 60 s, slide 1 s, 60 panes).
Variant: records per batch, b5555 (what H1 has in a second) or b500000.  Records are generated in memory before the clock starts; the batches
run back to back on a manual clock: `query_s` is the time for as many records as H1 has.  pyspark's jars hold the Scala compiler."""
import json
import os
import subprocess
import sys
import peerlib
import pyspark

a = peerlib.Task()
jars = os.path.join(os.path.dirname(pyspark.__file__), "jars", "*")
here = os.path.dirname(os.path.abspath(__file__))
cls = os.path.join(os.path.abspath(os.path.dirname(a.path)), "dstream_classes")
if a.prepare:
    if not os.path.isdir(cls):
        os.makedirs(cls + ".new", exist_ok=True)
        subprocess.check_call(["java", "-cp", jars, "scala.tools.nsc.Main", "-usejavacp", "-nowarn", "-d", cls + ".new", os.path.join(here, "DStreamBench.scala")])
        os.rename(cls + ".new", cls)
    sys.exit(0)
per = int(a.variant.lstrip("b"))
batches = max(4, a.w["rows"] // per)
opens = [x for p in ("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util", "java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar") for x in ("--add-opens", f"java.base/{p}=ALL-UNNAMED")]
cmd = ["java", "-Xmx8g", *opens, "-cp", cls + ":" + jars, "org.apache.spark.streaming.DStreamBench", str(per), str(batches), "1000", a.spill, str(a.threads)]
out = subprocess.run(cmd, stdout=subprocess.PIPE, text=True, check=True).stdout
r = json.loads(next(line for line in out.splitlines() if line.startswith("RESULT "))[7:])
# every batch from the first is counted, also those that warm up
made = per // a.threads * a.threads
expected = made * sum(min(b, 60) for b in range(1, 70 + batches + 1))
peerlib.result(verdict="ok" if r["cnt"] == expected else f"counts {r['cnt']} instead of {expected}", **r)
