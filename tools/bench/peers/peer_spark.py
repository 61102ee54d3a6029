"""Spark (structured, batch, 8 GB heap; SPARK_HEAP).  H/T: idiomatic (window(ts, length, slide)) | tuned_panes ; L: idiomatic | tuned ;
S1, S2: idiomatic.  Dropped rows go to Spark's noop sink and are counted by an observation."""
import os
import sys
import peerlib

a = peerlib.Task()
spill = a.spill
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
from pyspark.sql import Observation, SparkSession, functions as F

w, v = a.w, a.variant
L, S = w["length"], w["slide"]
N = L // S if L else 0
b = (SparkSession.builder.master(f"local[{a.threads}]").config("spark.driver.memory", os.environ.get("SPARK_HEAP", "8g"))
     .config("spark.sql.session.timeZone", "UTC").config("spark.sql.shuffle.partitions", str(2 * a.threads))
     .config("spark.ui.enabled", "false").config("spark.local.dir", spill).config("spark.sql.ansi.enabled", "false")
     .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
     .config("spark.sql.warehouse.dir", spill).config("spark.sql.streaming.stateStore.providerClass", os.environ.get(
         "SPARK_STATE", "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider")))
spark = b.getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
if w["kind"] in ("hop", "group", "shuffle"):
    src = spark.read.parquet(a.path)


def secs(c):
    return F.unix_seconds(c.cast("timestamp"))


def to_ts(c):
    return F.timestamp_seconds(c)


def hop(src):
    mm, csa = a.mm, a.csa
    raw = [F.min("value").alias("mn"), F.max("value").alias("mx")] if mm else [F.count("*").alias("cnt"), F.sum("value").alias("sm")] + ([F.avg("value").alias("av")] if csa else [])
    if v == "idiomatic" or N == 1:
        win = F.window("ts", f"{L} seconds", f"{S} seconds") if N > 1 else F.window("ts", f"{L} seconds")
        g = src.groupBy(win, "key").agg(*raw)
        return g.select(F.col("window.end").alias("wend"), "key", *[c for c in g.columns if c not in ("window", "key")])
    if v == "tuned_panes":
        pa = [F.min("value").alias("mn"), F.max("value").alias("mx")] if mm else [F.count("*").alias("c"), F.sum("value").alias("s")]
        p = src.groupBy((F.floor(secs(F.col("ts")) / S)).alias("p"), "key").agg(*pa)
        e = p.withColumn("we", F.explode(F.sequence(F.col("p") + 1, F.col("p") + N)))
        ag = [F.min("mn").alias("mn"), F.max("mx").alias("mx")] if mm else [F.sum("c").alias("cnt"), F.sum("s").alias("sm")]
        g = e.groupBy("we", "key").agg(*ag)
        cols = ["mn", "mx"] if mm else ["cnt", "sm"] + ([(F.col("sm") / F.col("cnt")).alias("av")] if csa else [])
        return g.select(to_ts(F.col("we") * S).alias("wend"), "key", *cols)
    raise SystemExit("unknown variant " + v)


def log():
    lat = a.workload != "L1"
    if a.workload == "L1":
        if v.startswith("idiomatic"):
            rx = r'^(\S+) \S+ \S+ \[([^\]]+)\] "(\S+) (\S+) [^"]*" (\d+) (\S+)'
            r = spark.read.text(a.path)
            q = r.select(F.to_timestamp(F.regexp_extract("value", rx, 2), "dd/MMM/yyyy:HH:mm:ss Z").alias("ts"), F.regexp_extract("value", rx, 4).alias("key"),
                         F.regexp_extract("value", rx, 5).cast("int").alias("status"), F.regexp_extract("value", rx, 6).cast("long").alias("bytes"))
        else:
            sch = "ip string, i string, u string, t string, tz string, req string, status int, b string, ref string, ua string"
            r = spark.read.csv(a.path, sep=" ", schema=sch, quote='"', escape='"')
            q = r.select(F.to_timestamp(F.substring("t", 2, 20), "dd/MMM/yyyy:HH:mm:ss").alias("ts"),
                         F.split("req", " ")[1].alias("key"), "status", F.col("b").cast("long").alias("bytes"))
    elif a.workload == "L2":
        sch = None if v.startswith("idiomatic") else "ts string, path string, status int, bytes long, latency_ms double"
        r = spark.read.json(a.path, schema=sch)
        q = r.select(F.to_timestamp("ts").alias("ts"), F.col("path").alias("key"), "status", "bytes", "latency_ms")
    else:
        kw = dict(inferSchema=True) if v.startswith("idiomatic") else dict(schema="ts timestamp, ip string, method string, path string, status int, bytes long, latency_ms double, user_agent string")
        r = spark.read.csv(a.path, header=True, **kw)
        q = r.select(F.to_timestamp("ts").alias("ts"), F.col("path").alias("key"), "status", "bytes", "latency_ms")
    if v.startswith("idiomatic"):
        g = q.groupBy(F.window("ts", f"{L} seconds", f"{S} seconds"), "key").agg(F.count("*").alias("cnt"), F.sum("bytes").alias("sm"), F.sum((F.col("status") >= 500).cast("long")).alias("err"),
                                                                                *([F.avg("latency_ms").alias("lat")] if lat else []))
        return g.select(F.col("window.end").alias("wend"), "key", "cnt", "sm", "err", *(["lat"] if lat else []))
    p = q.groupBy(F.floor(F.unix_seconds("ts") / S).alias("p"), "key").agg(F.count("*").alias("c"), F.sum("bytes").alias("s"), F.sum((F.col("status") >= 500).cast("long")).alias("e"),
                                                                         *([F.sum("latency_ms").alias("l")] if lat else []))
    e = p.withColumn("we", F.explode(F.sequence(F.col("p") + 1, F.col("p") + N)))
    g = e.groupBy("we", "key").agg(F.sum("c").alias("cnt"), F.sum("s").alias("sm"), F.sum("e").alias("err"), *([F.sum("l").alias("l")] if lat else []))
    return g.select(to_ts(F.col("we") * S).alias("wend"), "key", "cnt", "sm", "err", *([(F.col("l") / F.col("cnt")).alias("lat")] if lat else []))




def go():
    if w["kind"] == "shuffle":
        src.repartition(64, "key").write.mode("overwrite").option("compression", "zstd").parquet(a.out)
        spark.read.parquet(a.out).agg(F.count("*"), F.sum("key"), F.sum("value"), F.max(F.length("payload"))).collect()
        return None
    q = hop(src) if w["kind"] == "hop" else log() if w["kind"] == "log" else src.groupBy("key").agg(F.count("*").alias("cnt"), F.sum("value").alias("sm"))
    if a.sink == "dropped":
        seen = Observation()
        q.observe(seen, F.count(F.lit(1)).alias("rows")).write.format("noop").mode("overwrite").save()
        return seen.get["rows"]
    elif a.sink == "parquet":
        q.write.mode("overwrite").parquet(a.out)
    elif a.sink == "csv":
        q.write.mode("overwrite").option("header", True).option("timestampFormat", "yyyy-MM-dd HH:mm:ss").csv(a.out)


rows, seconds = peerlib.timed(go)
peerlib.result(query_s=seconds, rows=rows)
spark.stop()
