"""Polars.  H/T: idiomatic (group_by_dynamic) | idiomatic_streaming | tuned_panes (pane x expansion, streaming)
| tuned_cumsum (dense grid, cum_sum difference) | tuned_rolling ; L: idiomatic (regex) | tuned ; S1, S2: idiomatic"""
import os
import peerlib

a = peerlib.Task()
spill = a.spill
os.environ["POLARS_MAX_THREADS"] = str(a.threads)
os.environ["POLARS_TEMP_DIR"] = spill
if a.variant == "ooc":  # the unstable out-of-core mode of the streaming engine
    os.environ["POLARS_OOC_MEMORY_BUDGET_MB"] = "512"
    os.environ["POLARS_OOC_SPILL_DIR"] = spill
import polars as pl

w, v = a.w, a.variant
L, S = w["length"], w["slide"]
N = L // S if L else 0
if w["kind"] in ("hop", "group", "shuffle"):
    src = pl.scan_parquet(a.path)
US = 1_000_000


def raw_aggs():
    if a.mm:
        return [pl.col("value").min().alias("mn"), pl.col("value").max().alias("mx")]
    r = [pl.len().alias("cnt"), pl.col("value").sum().alias("sm")]
    return r + ([pl.col("value").mean().alias("av")] if a.csa else [])


def hop():
    """-> LazyFrame, engine"""
    mm = a.mm
    if N == 1 and v == "tuned_onekey":
        P0, P = peerlib.T0 // S, w["dur"] // S
        q = src.group_by((pl.col("key") * P + (pl.col("ts").dt.epoch("us") // (S * US) - P0)).cast(pl.UInt32).alias("code")).agg(raw_aggs())
        return q.select((((pl.col("code") % P).cast(pl.Int64) + (P0 + 1)) * (S * US)).cast(pl.Datetime("us")).alias("wend"), (pl.col("code") // P).cast(pl.Int64).alias("key"), pl.exclude("code")), "streaming"
    if N == 1:
        if v == "idiomatic":
            return src.group_by_dynamic("ts", every=f"{S}s", group_by="key", label="right").agg(raw_aggs()).rename({"ts": "wend"}), "in-memory"
        eng = "streaming"
        return src.group_by((pl.col("ts").dt.truncate(f"{S}s") + pl.duration(seconds=S)).alias("wend"), "key").agg(raw_aggs()), eng
    if v in ("idiomatic", "idiomatic_streaming"):
        # offset: without it the partial windows before the first full one are left out
        q = src.group_by_dynamic("ts", every=f"{S}s", period=f"{L}s", offset=f"-{L - S}s", group_by="key", label="right", closed="left").agg(raw_aggs())
        return q.rename({"ts": "wend"}), ("streaming" if v.endswith("streaming") else "in-memory")
    if v == "idiomatic_nooffset":
        q = src.group_by_dynamic("ts", every=f"{S}s", period=f"{L}s", group_by="key", label="right", closed="left").agg(raw_aggs())
        return q.rename({"ts": "wend"}), "in-memory"
    pa = raw_aggs() if mm else [pl.len().cast(pl.Int64).alias("c"), pl.col("value").sum().alias("s")]
    panes = src.group_by((pl.col("ts").dt.epoch("us") // (S * US)).alias("p"), "key").agg(pa)
    fin = [((pl.col("we") * (S * US)).cast(pl.Datetime("us"))).alias("wend"), "key"]
    if mm:
        fin += ["mn", "mx"]
    else:
        fin += ["cnt", "sm"] + ([(pl.col("sm") / pl.col("cnt")).alias("av")] if a.csa else [])
    if v == "tuned_onekey":
        # as tuned_cumsum, with pane and key packed into one integer (small known integer keys) for a cheaper hash and join
        P0, P, K = peerlib.T0 // S, w["dur"] // S + N - 1, w["keys"]
        p = src.group_by((pl.col("key") * P + (pl.col("ts").dt.epoch("us") // (S * US) - P0)).cast(pl.UInt32).alias("code")).agg(pa).collect(engine="streaming")
        c = pl.zeros(K * P, pl.Int64, eager=True).scatter(p["code"], p["c"])
        s = pl.zeros(K * P, pl.Float64, eager=True).scatter(p["code"], p["s"])
        g = pl.LazyFrame({"c": c, "s": s}).with_row_index("i").with_columns(pl.col("c").cum_sum(), pl.col("s").cum_sum())
        d = g.select((pl.col("i") % P + (P0 + 1)).cast(pl.Int64).alias("we"), (pl.col("i") // P).cast(pl.Int64).alias("key"),
                     (pl.col("c") - pl.col("c").shift(N, fill_value=0)).alias("cnt"), (pl.col("s") - pl.col("s").shift(N, fill_value=0.0)).alias("sm")).filter(pl.col("cnt") > 0)
        return d.select(fin), "in-memory"
    if v == "tuned_panes":
        agg = [pl.col("mn").min(), pl.col("mx").max()] if mm else [pl.col("c").sum().alias("cnt"), pl.col("s").sum().alias("sm")]
        j = pl.LazyFrame({"j": list(range(1, N + 1))}, schema={"j": pl.Int64})
        p = panes.collect(engine="streaming").lazy()
        g = p.join(j, how="cross").with_columns((pl.col("p") + pl.col("j")).alias("we")).group_by("we", "key").agg(agg)
        return g.select(fin), "streaming"
    p = panes.collect(engine="streaming")
    lo, hi = p["p"].min(), p["p"].max()
    grid = p.select(pl.col("key").unique().sort()).lazy().join(pl.LazyFrame({"p": pl.int_range(lo, hi + N, eager=True)}), how="cross")
    g = grid.join(p.lazy(), on=["key", "p"], how="left", maintain_order="left")
    # the grid is key-major and complete: one run of the whole column, the difference at distance N.
    if v == "tuned_cumsum":
        # each key's run ends in N-1 empty panes, so a plain (ungrouped) rolling difference never mixes keys except
        # in the first N-1 rows of a key, where the previous key's tail panes are empty: no grouping is needed.
        c = g.with_columns(pl.col("c").fill_null(0).cum_sum(), pl.col("s").fill_null(0.0).cum_sum())
        d = c.select((pl.col("p") + 1).alias("we"), "key", (pl.col("c") - pl.col("c").shift(N, fill_value=0)).alias("cnt"),
                     (pl.col("s") - pl.col("s").shift(N, fill_value=0.0)).alias("sm")).filter(pl.col("cnt") > 0)
        return d.select(fin), "in-memory"
    if v == "tuned_rolling":
        if mm:
            d = g.select((pl.col("p") + 1).alias("we"), "key", pl.col("mn").rolling_min(N, min_samples=1), pl.col("mx").rolling_max(N, min_samples=1)).filter(pl.col("mn").is_not_null())
        else:
            d = g.select((pl.col("p") + 1).alias("we"), "key", pl.col("c").fill_null(0).rolling_sum(N, min_samples=1).alias("cnt"),
                         pl.col("s").fill_null(0.0).rolling_sum(N, min_samples=1).alias("sm")).filter(pl.col("cnt") > 0)
        return d.select(fin), "in-memory"
    raise SystemExit("unknown variant " + v)


def log():
    lat = a.workload != "L1"
    if a.workload == "L1":
        if v.startswith("idiomatic"):
            rx = r'^(?P<ip>\S+) \S+ \S+ \[(?P<ts>[^\]]+)\] "(?P<method>\S+) (?P<path>\S+) [^"]*" (?P<status>\d+) (?P<bytes>\S+)'
            q = pl.scan_csv(a.path, separator="\x01", quote_char=None, has_header=False, new_columns=["line"])
            q = q.select(pl.col("line").str.extract_groups(rx).struct.unnest())
            q = q.select(pl.col("ts").str.strptime(pl.Datetime("us"), "%d/%b/%Y:%H:%M:%S +0000"), pl.col("path").alias("key"),
                         pl.col("status").cast(pl.Int16), pl.col("bytes").cast(pl.Int64, strict=False))
        else:
            q = pl.scan_csv(a.path, separator=" ", quote_char='"', has_header=False,
                            new_columns=["ip", "i", "u", "ts", "tz", "req", "status", "bytes", "ref", "ua"],
                            schema_overrides={"column_7": pl.Int16}, infer_schema=False)
            q = q.select(pl.col("ts").str.slice(1).str.strptime(pl.Datetime("us"), "%d/%b/%Y:%H:%M:%S"),
                         pl.col("req").str.split_exact(" ", 1).struct.field("field_1").alias("key"),
                         pl.col("status").cast(pl.Int16), pl.col("bytes").cast(pl.Int64, strict=False))
    elif a.workload == "L2":
        if v.startswith("idiomatic"):
            q = pl.scan_ndjson(a.path)
        else:
            q = pl.scan_ndjson(a.path, schema={"ts": pl.String, "path": pl.String, "status": pl.Int64, "bytes": pl.Int64, "latency_ms": pl.Float64})
        q = q.select(pl.col("ts").str.strptime(pl.Datetime("us"), "%Y-%m-%dT%H:%M:%SZ"), pl.col("path").alias("key"), "status", "bytes", "latency_ms")
    else:
        q = pl.scan_csv(a.path)
        q = q.select(pl.col("ts").str.strptime(pl.Datetime("us"), "%Y-%m-%dT%H:%M:%SZ"), pl.col("path").alias("key"), "status", "bytes", "latency_ms")
    if v.startswith("idiomatic"):
        aggs = [pl.len().alias("cnt"), pl.col("bytes").sum().alias("sm"), (pl.col("status") >= 500).sum().alias("err")]
        if lat:
            aggs.append(pl.col("latency_ms").mean().alias("lat"))
        q = q.group_by_dynamic("ts", every=f"{S}s", period=f"{L}s", offset=f"-{L - S}s", group_by="key", label="right", closed="left").agg(aggs)
        return q.rename({"ts": "wend"}).select("wend", "key", pl.exclude("wend", "key")), ("streaming" if v.endswith("streaming") else "in-memory")
    aggs = [pl.len().cast(pl.Int64).alias("cnt"), pl.col("bytes").sum().alias("sm"), (pl.col("status") >= 500).sum().cast(pl.Int64).alias("err")]
    if lat:
        aggs.append(pl.col("latency_ms").sum().alias("l"))
    p = q.group_by((pl.col("ts").dt.epoch("s") // S).alias("p"), "key").agg(aggs).collect(engine="streaming").lazy()
    if v == "tuned_dense":
        # number the keys, lay the panes out as key x pane, cumulative sums, difference at distance N
        p = p.collect()
        keys = p["key"].unique()
        P0 = p["p"].min()
        P = p["p"].max() - P0 + N
        ids = pl.DataFrame({"key": keys, "id": pl.int_range(len(keys), eager=True)})
        code = p.lazy().join(ids.lazy(), on="key", how="left", maintain_order="left").select(pl.col("id") * P + pl.col("p") - P0).collect().to_series()
        cols = {c: pl.zeros(len(keys) * P, p[c].dtype, eager=True).scatter(code, p[c]) for c in ("cnt", "sm", "err") + (("l",) if lat else ())}
        d = pl.LazyFrame(cols).with_columns(pl.all().cum_sum()).with_columns((pl.col(c) - pl.col(c).shift(N, fill_value=0)) for c in cols).with_row_index("i").filter(pl.col("cnt") > 0)
        fin = [(((pl.col("i") % P).cast(pl.Int64) + (P0 + 1)) * (S * US)).cast(pl.Datetime("us")).alias("wend"), pl.lit(keys).gather(pl.col("i") // P).alias("key"), "cnt", "sm", "err"]
        if lat:
            fin.append((pl.col("l") / pl.col("cnt")).alias("lat"))
        return d.select(fin), "in-memory"
    j = pl.LazyFrame({"j": list(range(1, N + 1))}, schema={"j": pl.Int64})
    g = p.join(j, how="cross").group_by(pl.col("p") + pl.col("j"), "key").agg(pl.exclude("p", "key", "j").sum())
    fin = [((pl.col("p") * (S * US)).cast(pl.Datetime("us"))).alias("wend"), "key", "cnt", "sm", "err"]
    if lat:
        fin.append((pl.col("l") / pl.col("cnt")).alias("lat"))
    return g.select(fin), "streaming"




def shuffle():
    n0 = src.with_columns((pl.col("key").hash() % 64).cast(pl.Int32).alias("part"))
    n0.sink_parquet(pl.PartitionBy(a.out, key=["part"]), compression="zstd", mkdir=True, engine="streaming")
    pl.scan_parquet(a.out + "/**/*.parquet").select(pl.len().alias("n"), pl.col("key").sum(), pl.col("value").sum(), pl.col("payload").str.len_bytes().max()).collect(engine="streaming")


def go():
    if w["kind"] == "shuffle":
        return shuffle()
    if w["kind"] == "hop":
        q, eng = hop()
    elif w["kind"] == "log":
        q, eng = log()
    else:
        q, eng = src.group_by("key").agg(pl.len().alias("cnt"), pl.col("value").sum().alias("sm")), "streaming"
    if a.sink == "dropped":
        return q.collect(engine=eng).height
    if a.sink == "parquet":
        q.sink_parquet(a.out, compression="snappy", engine=eng) if eng == "streaming" else q.collect(engine=eng).write_parquet(a.out, compression="snappy")
    else:
        q.sink_csv(a.out, engine=eng) if eng == "streaming" else q.collect(engine=eng).write_csv(a.out)


rows, seconds = peerlib.timed(go)
peerlib.result(query_s=seconds, rows=rows)
