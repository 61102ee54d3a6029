"""DuckDB.  variants H/T: idiomatic_unnest | idiomatic_join | tuned_panes | tuned_cumsum | tuned_frame
L: idiomatic_regex | idiomatic | tuned ; S1/S2: idiomatic"""
import peerlib
import duckdb

a = peerlib.Task()

con = duckdb.connect()
con.execute(f"set threads={a.threads}; set preserve_insertion_order=false; set TimeZone='UTC'")
w, v = a.w, a.variant
L, S = w["length"], w["slide"]
N = L // S if L else 0
T0 = peerlib.T0
SRC = f"read_parquet('{a.path}')"

TS = lambda e: f"make_timestamp(({e})*1000000)"  # epoch seconds -> timestamp


def hop_sql():
    mm = a.mm
    raw = "min(value) mn, max(value) mx" if mm else "count(*) cnt, sum(value) sm" + (", avg(value) av" if a.csa else "")
    if N == 1 and v == "tuned_onekey":
        P0, P = T0 // S, w["dur"] // S
        return f"""with g as (select (key*{P} + (epoch_us(ts)//{S * 1000000} - {P0}))::UINTEGER code, {raw} from {SRC} group by all)
           select {TS(f"((code % {P})::bigint + {P0 + 1})*{S}")} wend, (code // {P})::bigint as key, * exclude (code) from g"""
    if N == 1:
        return f"select time_bucket(interval '{S} seconds', ts) + interval '{S} seconds' wend, key, {raw} from {SRC} group by all"
    if v == "idiomatic_unnest":
        return f"""select time_bucket(interval '{S} seconds', ts) + interval '{S} seconds' * j as wend, key, {raw}
            from {SRC}, (select unnest(range(1,{N + 1})) j) group by all"""
    if v == "idiomatic_join":
        return f"""with b as (select min(ts) lo, max(ts) hi from {SRC}),
          wins as (select unnest(generate_series(time_bucket(interval '{S} seconds', lo) + interval '{S} seconds', time_bucket(interval '{S} seconds', hi) + interval '{L} seconds', interval '{S} seconds')) wend from b)
          select wend, key, {raw} from {SRC} e join wins on e.ts < wend and e.ts >= wend - interval '{L} seconds' group by all"""
    pa = "min(value) mn, max(value) mx" if mm else "count(*) c, sum(value) s"
    P0, P = T0 // S, w["dur"] // S + N - 1
    if v == "tuned_onekey":  # pane and key packed into one integer before the group-by (small non-negative keys known beforehand)
        v0 = "UINTEGER" if w["keys"] * P < 2**32 else "UBIGINT"
        panes = f"""packed as materialized (select (key*{P} + (epoch_us(ts)//{S * 1000000} - {P0}))::{v0} code, {pa} from {SRC} group by all),
           panes as (select (code % {P})::bigint + {P0} p, (code // {P})::bigint as key, * exclude (code) from packed)"""
    else:
      panes = f"panes as materialized (select epoch_us(ts)//{S * 1000000} as p, key, {pa} from {SRC} group by all)"
    avg = ", sm/cnt av" if a.csa else ""
    if v == "tuned_panes":
        agg = "min(mn) mn, max(mx) mx" if mm else "sum(c)::bigint cnt, sum(s) sm"
        return f"""with {panes}, g as (select p+j as we, key, {agg} from panes, (select unnest(range(1,{N + 1})) j) group by all)
          select {TS(f'we*{S}')} wend, * exclude (we) {avg} from g"""
    grid = f"""ks as (select distinct key from panes), b as (select min(p) lo, max(p) hi from panes),
       grid as (select p, key from (select unnest(range(lo, hi+{N})) p from b), ks)"""
    if v == "tuned_cumsum":
        return f"""with {panes}, {grid},
          cs as (select p, key, sum(c) over w1 as cc, sum(s) over w1 as ss from grid left join panes using (p,key)
             window w1 as (partition by key order by p rows unbounded preceding)),
          d as (select p, key, coalesce(cc,0) - coalesce(lag(cc,{N}) over w2,0) cnt, coalesce(ss,0) - coalesce(lag(ss,{N}) over w2,0) sm
             from cs window w2 as (partition by key order by p))
          select {TS(f'(p+1)*{S}')} wend, key, cnt::bigint cnt, sm {avg} from d where cnt>0"""
    if v in ("tuned_frame", "tuned_onekey"):
        fr = f"window w1 as (partition by key order by p rows {N - 1} preceding)"
        if mm:
            return f"""with {panes}, {grid}, d as (select p, key, min(mn) over w1 mn, max(mx) over w1 mx from grid left join panes using (p,key) {fr})
              select {TS(f'(p+1)*{S}')} wend, key, mn, mx from d where mn is not null"""
        return f"""with {panes}, {grid}, d as (select p, key, sum(c) over w1 cnt, sum(s) over w1 sm from grid left join panes using (p,key) {fr})
          select {TS(f'(p+1)*{S}')} wend, key, cnt::bigint cnt, sm {avg} from d where cnt>0"""
    raise SystemExit("unknown variant " + v)


def log_sql():
    lat = a.workload != "L1"
    if a.workload == "L1":
        if v.startswith("idiomatic"):
            # one regular expression over the whole line
            rx = r'^(\S+) \S+ \S+ \[([^\]]+)\] "(\S+) (\S+) [^"]*" (\d+) (\S+)'
            src = f"""(select strptime(m.ts, '%d/%b/%Y:%H:%M:%S %z') ts, m.path as key, try_cast(m.bytes as bigint) bytes, m.status::int status from
               (select regexp_extract(line, '{rx}', ['ip','ts','method','path','status','bytes']) m
                from read_csv('{a.path}', columns={{'line':'VARCHAR'}}, delim='\\x01', quote='', escape='', header=false, auto_detect=false)))"""
        else:
            src = f"""(select strptime(ts, '[%d/%b/%Y:%H:%M:%S') ts, split_part(req,' ',2) as key, try_cast(bytes as bigint) bytes, status
                from read_csv('{a.path}', delim=' ', quote='"', escape='"', header=false, auto_detect=false,
                columns={{'ip':'VARCHAR','i':'VARCHAR','u':'VARCHAR','ts':'VARCHAR','tz':'VARCHAR','req':'VARCHAR','status':'SMALLINT','bytes':'VARCHAR','ref':'VARCHAR','ua':'VARCHAR'}}))"""
    elif a.workload == "L2":
        if v.startswith("idiomatic"):
            src = f"(select ts, path as key, bytes, status, latency_ms from read_json_auto('{a.path}'))"
        else:
            src = f"""(select ts, path as key, bytes, status, latency_ms from read_json('{a.path}', format='newline_delimited',
                columns={{'ts':'TIMESTAMP','path':'VARCHAR','status':'SMALLINT','bytes':'BIGINT','latency_ms':'DOUBLE'}}))"""
    else:
        if v.startswith("idiomatic"):
            src = f"(select ts, path as key, bytes, status, latency_ms from read_csv('{a.path}'))"
        else:
            src = f"""(select ts, path as key, bytes, status, latency_ms from read_csv('{a.path}', header=true, auto_detect=false, delim=',', quote='"', escape='"',
                columns={{'ts':'TIMESTAMP','ip':'VARCHAR','method':'VARCHAR','path':'VARCHAR','status':'SMALLINT','bytes':'BIGINT','latency_ms':'DOUBLE','user_agent':'VARCHAR'}}))"""
    lraw = ", avg(latency_ms) lat" if lat else ""
    if v.startswith("idiomatic"):
        return f"""select time_bucket(interval '{S} seconds', ts) + interval '{S} seconds' * j as wend, key, count(*) cnt, sum(bytes)::bigint sm, count(*) filter (status>=500) err {lraw}
            from {src}, (select unnest(range(1,{N + 1})) j) group by all"""
    lp = ", sum(latency_ms) l" if lat else ""
    lg = ", sum(l)/sum(c) lat" if lat else ""
    if v == "tuned_frame":
        fl = ", sum(l) over w1 l" if lat else ""
        fo = ", l/cnt lat" if lat else ""
        return f"""with panes as materialized (select epoch_us(ts)//{S * 1000000} p, key, count(*) c, sum(bytes) s, count(*) filter (status>=500) e {lp} from {src} group by all),
          ks as (select distinct key from panes), b as (select min(p) lo, max(p) hi from panes),
          grid as (select p, key from (select unnest(range(lo, hi+{N})) p from b), ks),
          d as (select p, key, sum(c) over w1 cnt, sum(s) over w1 sm, sum(e) over w1 err {fl} from grid left join panes using (p,key)
            window w1 as (partition by key order by p rows {N - 1} preceding))
          select {TS(f'(p+1)*{S}')} wend, key, cnt::bigint cnt, sm::bigint sm, err::bigint err {fo} from d where cnt>0"""
    return f"""with panes as materialized (select epoch_us(ts)//{S * 1000000} p, key, count(*) c, sum(bytes) s, count(*) filter (status>=500) e {lp} from {src} group by all)
       select {TS(f'(p+j)*{S}')} wend, key, sum(c)::bigint cnt, sum(s)::bigint sm, sum(e)::bigint err {lg} from panes, (select unnest(range(1,{N + 1})) j) group by p+j, key"""


spill = a.spill
if w["kind"] == "group":
    con.execute(f"set memory_limit='512MB'; set temp_directory='{spill}'")
elif w["kind"] == "shuffle":
    con.execute(f"set memory_limit='4GB'; set temp_directory='{spill}'")


def shuffle():
    con.execute(f"copy (select *, (hash(key)%64)::int part from {SRC}) to '{a.out}' (format parquet, partition_by (part), compression 'zstd')")
    con.execute(f"select count(*) n, sum(key)::bigint k, sum(value) s, max(length(payload)) from read_parquet('{a.out}/*/*.parquet')").fetchone()


def go():
    if w["kind"] == "shuffle":
        return shuffle()
    q = hop_sql() if w["kind"] == "hop" else log_sql() if w["kind"] == "log" else f"select key, count(*) cnt, sum(value) sm from {SRC} group by key"
    if a.sink == "dropped":
        return con.sql(q).to_arrow_table().num_rows
    con.execute(f"copy ({q}) to '{a.out}' (format {a.sink}{', header' if a.sink == 'csv' else ''})")


rows, seconds = peerlib.timed(go)
peerlib.result(query_s=seconds, rows=rows)
