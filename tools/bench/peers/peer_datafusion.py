"""DataFusion.  H/T: idiomatic (unnest of the windows) | tuned_panes | tuned_frame (dense grid, sliding window frame: uses
retractable accumulators) ; L: idiomatic | tuned ; S1, S2: idiomatic"""
import peerlib
import datafusion as df, pyarrow as pa
from datafusion import SessionContext, SessionConfig, RuntimeEnvBuilder

a = peerlib.Task()
w, v = a.w, a.variant
L, S = w["length"], w["slide"]
N = L // S if L else 0
spill = a.spill
rt = RuntimeEnvBuilder().with_disk_manager_specified(spill)
if w["kind"] == "group":
    rt = rt.with_fair_spill_pool(512 << 20)
cfg = SessionConfig().with_target_partitions(a.threads)
ctx = SessionContext(cfg, rt)
if w["kind"] in ("hop", "group", "shuffle"):
    ctx.register_parquet("src", a.path)
P = lambda ts="ts": f"(cast({ts} as bigint) / {S * 1000000})"
WE = lambda e: f"arrow_cast(({e})*{S}*1000000, 'Timestamp(Microsecond, None)')"


def hop_sql():
    mm, csa = a.mm, a.csa
    raw = "min(value) mn, max(value) mx" if mm else "count(*) cnt, sum(value) sm" + (", avg(value) av" if csa else "")
    if N == 1:
        return f"select {WE(P() + '+1')} wend, key, {raw} from src group by 1, 2"
    if v == "idiomatic":
        return f"""select wend, key, {raw} from (select unnest(generate_series(date_bin(interval '{S} seconds', ts) + interval '{S} seconds', date_bin(interval '{S} seconds', ts) + interval '{L} seconds', interval '{S} seconds')) wend, key, value from src) group by 1, 2"""
    if v == "idiomatic_int":
        return f"""select {WE('we')} wend, * from (select {P()}+j we, key, {raw} from src cross join (select unnest(range(1,{N + 1})) j) group by 1, 2)"""
    ag = "min(value) mn, max(value) mx" if mm else "count(*) c, sum(value) s"
    panes = f"panes as (select {P()} p, key, {ag} from src group by 1, 2)"
    avg = ", sm/cnt av" if csa else ""
    if v == "tuned_panes":
        agg = "min(mn) mn, max(mx) mx" if mm else "sum(c) cnt, sum(s) sm"
        cols = "mn, mx" if mm else "cnt, sm" + avg
        return f"""with {panes}, g as (select p+j we, key, {agg} from panes cross join (select unnest(range(1,{N + 1})) j) group by 1, 2)
           select {WE('we')} wend, key, {cols} from g"""
    if v == "tuned_frame":
        # materialise the panes first: DataFusion would otherwise compute the common table expression three times
        ctx.register_record_batches("panes", [ctx.sql(f"with {panes} select * from panes").collect()])
        lo, hi = [ctx.sql(f"select {f}(p) m from panes").to_pydict()["m"][0] for f in ("min", "max")]
        grid = f"grid as (select p, key from (select distinct key from panes) k cross join (select unnest(range({lo},{hi + N})) p) g)"
        fr = f"over (partition by key order by p rows between {N - 1} preceding and current row)"
        sel = f"min(mn) {fr} mn, max(mx) {fr} mx" if mm else f"sum(c) {fr} cnt, sum(s) {fr} sm"
        cols, cond = ("mn, mx", "mn is not null") if mm else ("cnt, sm" + avg, "cnt>0")
        vals = "mn, mx" if mm else "c, s"
        return f"""with {grid}, f as (select grid.p p, grid.key key, {vals} from grid left join panes on grid.p=panes.p and grid.key=panes.key),
            d as (select p, key, {sel} from f) select {WE('p+1')} wend, key, {cols} from d where {cond}"""
    raise SystemExit("unknown variant " + v)


def log_sql():
    lat = a.workload != "L1"
    st, i64, i16 = pa.string(), pa.int64(), pa.int16()
    if a.workload == "L1":
        if v.startswith("idiomatic"):
            ctx.sql(f"create external table raw (line varchar) stored as csv location '{a.path}' options ('format.has_header' 'false', 'format.delimiter' '\x01', 'format.quote' '\x02')")
            rx = r'^(\S+) \S+ \S+ \[([^\]]+)\] "(\S+) (\S+) [^"]*" (\d+) (\S+)'
            src = f"""(select to_timestamp_seconds(m[2], '%d/%b/%Y:%H:%M:%S %z') ts, m[4] as key, cast(m[5] as smallint) status, try_cast(m[6] as bigint) bytes from (select regexp_match(line, '{rx}') m from raw))"""
        else:
            ctx.register_csv("raw", a.path, schema=pa.schema([("ip", st), ("i", st), ("u", st), ("ts", st), ("tz", st), ("req", st), ("status", i16), ("bytes", st), ("ref", st), ("ua", st)]),
                             has_header=False, delimiter=" ", file_extension=".log")
            src = "(select to_timestamp_seconds(concat(ts, ' +0000'), '[%d/%b/%Y:%H:%M:%S %z') ts, split_part(req,' ',2) as key, status, try_cast(bytes as bigint) bytes from raw)"
    elif a.workload == "L2":
        if v.startswith("idiomatic"):
            ctx.register_json("raw", a.path, file_extension=".ndjson")
        else:
            ctx.register_json("raw", a.path, file_extension=".ndjson", schema=pa.schema([("ts", pa.timestamp("s")), ("path", st), ("status", i16), ("bytes", i64), ("latency_ms", pa.float64())]))
        src = "(select to_timestamp_seconds(ts) ts, path as key, status, bytes, latency_ms from raw)"
    else:
        kw = {} if v.startswith("idiomatic") else dict(schema=pa.schema([("ts", pa.timestamp("s")), ("ip", st), ("method", st), ("path", st), ("status", i16), ("bytes", i64), ("latency_ms", pa.float64()), ("user_agent", st)]))
        ctx.register_csv("raw", a.path, has_header=True, **kw)
        src = "(select to_timestamp_seconds(ts) ts, path as key, status, bytes, latency_ms from raw)"
    p = f"cast(ts as bigint)/{S}"
    lraw = ", avg(latency_ms) lat" if lat else ""
    if v.startswith("idiomatic"):
        return f"""select wend, key, count(*) cnt, sum(bytes) sm, count(*) filter (where status>=500) err {lraw}
            from (select unnest(generate_series(date_bin(interval '{S} seconds', ts) + interval '{S} seconds', date_bin(interval '{S} seconds', ts) + interval '{L} seconds', interval '{S} seconds')) wend, * from {src}) group by 1, 2"""
    lp = ", sum(latency_ms) l" if lat else ""
    lg = ", sum(l) l" if lat else ""
    lf = ", l/cnt lat" if lat else ""
    return f"""with panes as (select {p} p, key, count(*) c, sum(bytes) s, count(*) filter (where status>=500) e {lp} from {src} group by 1, 2),
      g as (select p+j we, key, sum(c) cnt, sum(s) sm, sum(e) err {lg} from panes cross join (select unnest(range(1,{N + 1})) j) group by 1, 2)
      select {WE('we')} wend, key, cnt, sm, err {lf} from g"""




def shuffle():
    if v == "idiomatic":  # the hash repartition to 64 does not survive to the writer: see the number of files
        ctx.table("src").repartition_by_hash(df.col("key"), num=64).write_parquet(a.out, compression="zstd", compression_level=3)
    else:  # partitioned_by: Hive partitions of key mod 64
        ctx.sql(f"copy (select *, key % 64 as part from src) to '{a.out}' stored as parquet partitioned by (part) options ('format.compression' 'zstd(3)')").collect()
    ctx.register_parquet("back", a.out)
    ctx.sql("select count(*) n, sum(key) k, sum(value) s, max(octet_length(payload)) l from back").to_pydict()


def go():
    if w["kind"] == "shuffle":
        return shuffle()
    q = hop_sql() if w["kind"] == "hop" else log_sql() if w["kind"] == "log" else "select key, count(*) cnt, sum(value) sm from src group by key"
    r = ctx.sql(q)
    if a.sink == "dropped":
        return r.to_arrow_table().num_rows
    if a.sink == "parquet":
        r.write_parquet(a.out, compression="snappy")
    else:
        r.write_csv(a.out, with_header=True)


rows, seconds = peerlib.timed(go)
peerlib.result(query_s=seconds, rows=rows)
