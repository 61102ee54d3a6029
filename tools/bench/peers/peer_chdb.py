"""chDB (ClickHouse in process).  H/T: idiomatic (array join of the windows) | tuned_panes | tuned_cumsum (dense arrays per key,
arrayCumSum difference) ; L: idiomatic | tuned ; S1, S2: idiomatic"""
import os
import peerlib
from chdb import session

a = peerlib.Task()
w, v = a.w, a.variant
L, S = w["length"], w["slide"]
N = L // S if L else 0
T0 = peerlib.T0
spill = a.spill
s = session.Session(os.path.join(spill, "chdb"))
for k, x in dict(max_threads=a.threads, max_insert_threads=a.threads, session_timezone="'UTC'", max_memory_usage=0).items():
    s.query(f"SET {k}={x}")
SRC = f"file('{a.path}', 'Parquet')"
PA = lambda ts="ts": f"intDiv(toUnixTimestamp64Micro({ts}), {S * 1000000})"
WE = lambda e: f"toDateTime(({e})*{S})"


def hop_sql():
    mm = a.mm
    csa = a.csa
    raw = "min(value) mn, max(value) mx" if mm else "count() cnt, sum(value) sm" + (", avg(value) av" if csa else "")
    if N == 1:
        return f"select {WE(PA() + '+1')} wend, key, {raw} from {SRC} group by wend, key"
    if v == "idiomatic":
        return f"select {WE(PA() + '+j')} wend, key, {raw} from {SRC} array join range(1,{N + 1}) as j group by wend, key"
    if v == "idiomatic_p99":
        return f"select {WE(PA() + '+j')} wend, key, {raw}, quantileTDigest(0.99)(value) p99 from {SRC} array join range(1,{N + 1}) as j group by wend, key"
    pa = "min(value) mn, max(value) mx" if mm else "count() c, sum(value) s"
    panes = f"(select {PA()} p, key, {pa} from {SRC} group by p, key)"
    avg = ", sm/cnt av" if csa else ""
    if v == "tuned_p99":
        panes = f"(select {PA()} p, key, {pa}, quantileTDigestState(0.99)(value) q from {SRC} group by p, key)"
        return f"select {WE('p+j')} wend, key, min(mn) mn, max(mx) mx, quantileTDigestMerge(0.99)(q) p99 from {panes} array join range(1,{N + 1}) as j group by p+j, key"
    if v == "tuned_panes":
        agg = "min(mn) mn, max(mx) mx" if mm else "sum(c) cnt, sum(s) sm"
        return f"select {WE('we')} wend, key, * except (we, key) {avg} from (select p+j we, key, {agg} from {panes} array join range(1,{N + 1}) as j group by we, key)"
    P0 = T0 // S
    n = w["dur"] // S + N - 1
    if v == "tuned_cumsum":
        return f"""select {WE(f'i+{P0}+1')} wend, key, cnt, sm {avg} from (
          select key, groupArrayInsertAt(0,{n})(c, toUInt32(p-{P0})) ac, groupArrayInsertAt(0.,{n})(s, toUInt32(p-{P0})) asum,
             arrayCumSum(ac) cc, arrayCumSum(asum) cs,
             arrayMap((x,y)->toInt64(x)-toInt64(y), cc, arrayConcat(arrayWithConstant({N},toUInt64(0)), arraySlice(cc,1,{n - N}))) dc,
             arrayMap((x,y)->x-y, cs, arrayConcat(arrayWithConstant({N},0.), arraySlice(cs,1,{n - N}))) ds
          from {panes} group by key) array join dc as cnt, ds as sm, range({n}) as i where cnt>0"""
    raise SystemExit("unknown variant " + v)


def log_sql():
    lat = a.workload != "L1"
    if a.workload == "L1":
        if v.startswith("idiomatic"):
            rx = r'^(\\S+) \\S+ \\S+ \\[([^\\]]+)\\] "(\\S+) (\\S+) [^"]*" (\\d+) (\\S+)'
            src = f"""(select extractGroups(line, '{rx}') m, parseDateTime(substring(m[2],1,20), '%d/%b/%Y:%H:%i:%s') ts, m[4] as key, toUInt16(m[5]) status, toInt64OrZero(m[6]) bytes
               from file('{a.path}', 'LineAsString', 'line String'))"""
        else:
            src = f"""(select parseDateTime(substring(t,2), '%d/%b/%Y:%H:%i:%s') ts, splitByChar(' ', req)[2] as key, status, toInt64OrZero(b) bytes
               from file('{a.path}', 'CustomSeparated', 'ip String, i String, u String, t String, tz String, req String, status UInt16, b String, ref String, ua String'))"""
    elif a.workload == "L2":
        if v.startswith("idiomatic"):
            src = f"(select parseDateTimeBestEffort(toString(ts)) ts, path as key, status, bytes, latency_ms from file('{a.path}', 'JSONEachRow'))"
        else:
            src = f"(select ts, path as key, status, bytes, latency_ms from file('{a.path}', 'JSONEachRow', 'ts DateTime, path String, status UInt16, bytes Int64, latency_ms Float64'))"
    else:
        if v.startswith("idiomatic"):
            src = f"(select parseDateTimeBestEffort(toString(ts)) ts, path as key, status, bytes, latency_ms from file('{a.path}', 'CSVWithNames'))"
        else:
            src = f"(select ts, path as key, status, bytes, latency_ms from file('{a.path}', 'CSVWithNames', 'ts DateTime, ip String, method String, path String, status UInt16, bytes Int64, latency_ms Float64, user_agent String'))"
    p = f"intDiv(toUnixTimestamp(ts),{S})"
    lraw = ", avg(latency_ms) lat" if lat else ""
    if v.startswith("idiomatic"):
        return f"select {WE(p + '+j')} wend, key, count() cnt, sum(bytes) sm, countIf(status>=500) err {lraw} from {src} array join range(1,{N + 1}) as j group by wend, key"
    lp = ", sum(latency_ms) l" if lat else ""
    lg = ", sum(l)/cnt lat" if lat else ""
    return f"""select {WE('p+j')} wend, key, sum(c) cnt, sum(s) sm, sum(e) err {lg} from
       (select {p} p, key, count() c, sum(bytes) s, countIf(status>=500) e {lp} from {src} group by p, key) array join range(1,{N + 1}) as j group by p+j, key"""


FMT = dict(format_custom_field_delimiter="' '", format_custom_escaping_rule="'CSV'", format_custom_row_after_delimiter="'\\n'") if a.workload == "L1" and not v.startswith("idiomatic") else {}
if a.workload in ("L2", "L3"):
    FMT = dict(date_time_input_format="'best_effort'")
if w["kind"] == "group":
    for k, x in dict(max_memory_usage=512 << 20, max_bytes_before_external_group_by=64 << 20, max_block_size=8192, output_format_parquet_parallel_encoding=0,
                     output_format_parquet_row_group_size=200000, input_format_parquet_max_block_size=8192, group_by_two_level_threshold=10000, min_insert_block_size_rows=65536).items():
        s.query(f"SET {k}={x}")


def shuffle():
    os.makedirs(a.out, exist_ok=True)
    s.query("SET output_format_parquet_compression_method='zstd'")
    s.query(f"insert into function file('{a.out}/part_{{_partition_id}}.parquet', 'Parquet') partition by cityHash64(key)%64 select key, value, payload from {SRC}")
    s.query(f"select count(), sum(key), sum(value), max(length(payload)) from file('{a.out}/*.parquet','Parquet')", "CSV")


def go():
    if w["kind"] == "shuffle":
        return shuffle()
    q = hop_sql() if w["kind"] == "hop" else log_sql() if w["kind"] == "log" else f"select key, count() cnt, sum(value) sm from {SRC} group by key"
    if FMT:
        q += " settings " + ", ".join(f"{k}={x}" for k, x in FMT.items())
    if a.sink == "dropped":
        return s.query(q, "ArrowTable").num_rows
    s.query(f"insert into function file('{a.out}', '{'Parquet' if a.sink == 'parquet' else 'CSVWithNames'}') {q}")


rows, seconds = peerlib.timed(go)
peerlib.result(query_s=seconds, rows=rows)
