//! Micro-batch cases that are not a chain of operators over a table: inputs, what is kept, the life of states.

use crate::dstream::{collect, context, millis, sorted, states};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use windrow::stream::{BatchQueue, Receiver, State, StateSpec, Store, StreamingContext, Time};

/// Runs the case if it is one of these.
pub fn check(case: &Value, op: &str, threads: usize) -> Option<()> {
    match case["compare"].as_str()? {
        "retention" if op.contains("updateStateByKey") => kept_states(case, threads),
        "retention" => kept_blocks(case, threads),
        "table" => transitions(case, threads),
        "model" => model(case, threads),
        _ if !case["params"]["restart_after_batches"].is_null() => recovered(case, threads),
        _ if op.starts_with("queueStream") => queue(case, op.contains("=true"), threads),
        _ if op.starts_with("receiverStream") => receiver(case, threads),
        _ if op.starts_with("socketTextStream") => socket(case, threads),
        _ => return None,
    }
    Some(())
}

fn kept_states(case: &Value, threads: usize) {
    let (ctx, _) = context(case, threads);
    let states = crate::dstream::input(&ctx, case, &case["input"])
        .map(|x| (x, 1))
        .update_state_by_key(|ones, n: Option<i32>| Some(ones.iter().sum::<i32>() + n.unwrap_or(0)));
    states.checkpoint(millis(&case["params"]["checkpoint_ms"]));
    states.for_each_batch(|batch, _| batch.count().map(drop));
    ctx.start().unwrap();
    let expected = &case["expected"];
    ctx.run_until(Time::from_millis(expected["clock_ms_at_end"].as_u64().unwrap())).unwrap();
    assert_eq!(states.remember_duration(), millis(&expected["remember_ms"]));
    let times =
        |which: &str| expected[which].as_array().unwrap().iter().map(|t| Time::from_millis(t.as_u64().unwrap()));
    assert!(times("kept").all(|t| states.is_remembered(t)));
    assert!(!times("dropped").any(|t| states.is_remembered(t)));
}

/// A running count in two lives of a program.
fn recovered(case: &Value, threads: usize) {
    let dir = tempfile::tempdir().unwrap();
    let input: Vec<Vec<String>> = serde_json::from_value(case["input"].clone()).unwrap();
    let interval = case["batch_ms"].as_u64().unwrap();
    let mut rows = BTreeMap::new();
    for last in [case["params"]["restart_after_batches"].as_u64().unwrap(), input.len() as u64] {
        let (input, mut out) = (input.clone(), None);
        let ctx = StreamingContext::get_or_create(dir.path().join("saved"), || {
            let (ctx, _) = context(case, threads);
            let words = ctx.computed_stream(move |time| Some(input[(time.millis() / interval) as usize - 1].clone()));
            let sum = |ones: Vec<u64>, n: Option<u64>| Some(ones.iter().sum::<u64>() + n.unwrap_or(0));
            let counts = words.map(|word| (word, 1)).update_state_by_key(sum);
            counts.checkpoint(millis(&case["params"]["checkpoint_ms"]));
            out = Some(collect(&counts.map(|(word, n)| json!([word, n]))));
            Ok(ctx)
        });
        let (ctx, out) = (ctx.unwrap(), out.unwrap());
        ctx.start().unwrap();
        ctx.run_until(Time::from_millis(interval * last)).unwrap();
        ctx.stop(false).unwrap();
        let out = std::mem::take(&mut *out.lock().unwrap());
        assert!(last == 7 || out.len() < 5, "it began anew: {out:?}");
        rows.extend(out);
    }
    let rows: Vec<Value> = rows.into_values().map(Value::from).collect();
    assert_eq!(Value::from(rows), case["expected"]);
}

/// Feeds lines through a socket, a batch each, and looks at what is left of the first and the last one.
fn kept_blocks(case: &Value, threads: usize) {
    let (ctx, _) = context(case, threads);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let lines = ctx.socket_text_stream(listener.local_addr().unwrap().to_string()).unwrap();
    let dotted = lines.map(|line| json!(line + ".")).cache();
    // Somebody else reads the lines, so they are kept until all have read them.
    lines.for_each_batch(|_, _| Ok(()));
    let out = collect(&dotted);
    ctx.start().unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    let batches = case["input"].as_array().unwrap();
    let interval = case["batch_ms"].as_u64().unwrap();
    let time = |k: usize| Time::from_millis((k as u64 + 1) * interval);
    let (mut k, mut sent) = (0, 0);
    while out.lock().unwrap().iter().map(|batch| batch.1.len()).sum::<usize>() < batches.len() {
        if out.lock().unwrap().iter().map(|batch| batch.1.len()).sum::<usize>() == sent {
            writeln!(connection, "{}", batches[sent][0].as_str().unwrap()).unwrap();
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
        ctx.run_until(time(k)).unwrap();
        k += 1;
    }
    let last = time(k - 1);
    assert!(lines.is_remembered(last) && dotted.is_remembered(last), "the latest is kept");
    assert!(!lines.is_remembered(time(0)) && !dotted.is_remembered(time(0)), "the earliest is forgotten");
    ctx.stop(false).unwrap();
}

fn queue(case: &Value, one_at_a_time: bool, threads: usize) {
    let (ctx, _) = context(case, threads);
    let queue = BatchQueue::new();
    let stream = if one_at_a_time { ctx.queue_stream(&queue) } else { ctx.queue_stream_all(&queue) };
    let out = collect(&stream);
    ctx.start().unwrap();
    let items = case["input"].as_array().unwrap();
    let ticks: Vec<Vec<Value>> = match case["params"]["enqueued_before_tick"].as_array() {
        Some(ticks) => ticks.iter().map(|tick| tick.as_array().unwrap().clone()).collect(),
        None => items.chunks(2).map(<[Value]>::to_vec).chain(vec![vec![]; items.len()]).collect(),
    };
    for (k, tick) in ticks.into_iter().enumerate() {
        tick.into_iter().for_each(|item| queue.push(vec![item]));
        ctx.run_until(Time::from_millis((k as u64 + 1) * case["batch_ms"].as_u64().unwrap())).unwrap();
    }
    let got: Vec<Value> =
        out.lock().unwrap().iter().filter(|batch| !batch.1.is_empty()).map(|batch| json!(batch.1)).collect();
    assert_eq!(json!(got), case["expected"]);
}

struct Threads {
    threads: u64,
    each: u64,
}

impl Receiver<u64> for Threads {
    fn run(&self, store: &Store<u64>) -> windrow::Result<()> {
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| (0..self.each).for_each(|n| store.store(n).expect("room, sooner or later")));
            }
        });
        Ok(())
    }
}

fn receiver(case: &Value, threads: usize) {
    let (ctx, _) = context(case, threads);
    let get = |name: &str| case["params"][name].as_u64().unwrap();
    let stream = ctx.receiver_stream(Threads { threads: get("threads"), each: get("records_per_thread") });
    let sum = Arc::new(Mutex::new(0));
    let into = sum.clone();
    stream.count().for_each_batch(move |batch, _| {
        *into.lock().unwrap() += batch.collect()?.iter().sum::<u64>();
        Ok(())
    });
    ctx.start().unwrap();
    let (want, end) = (case["expected"]["sum_of_counts"].as_u64().unwrap(), Instant::now() + Duration::from_secs(60));
    let mut k = 0;
    while *sum.lock().unwrap() < want {
        assert!(Instant::now() < end, "records are missing");
        k += 1;
        ctx.run_until(Time::from_millis(k * case["batch_ms"].as_u64().unwrap())).unwrap();
    }
    ctx.stop(true).unwrap();
    assert_eq!(*sum.lock().unwrap(), want);
}

fn socket(case: &Value, threads: usize) {
    let (ctx, _) = context(case, threads);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let lines = ctx.socket_text_stream(listener.local_addr().unwrap().to_string()).unwrap();
    let out = collect(&lines.map(Value::from));
    ctx.start().unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    let input = case["input"].as_array().unwrap();
    input.iter().for_each(|line| writeln!(connection, "{}", line.as_str().unwrap()).unwrap());
    let flat = || -> Vec<Value> { out.lock().unwrap().iter().flat_map(|batch| batch.1.clone()).collect() };
    let (mut k, end) = (0, Instant::now() + Duration::from_secs(60));
    while flat().len() < input.len() {
        assert!(Instant::now() < end, "lines are missing");
        k += 1;
        ctx.run_until(Time::from_millis(k * case["batch_ms"].as_u64().unwrap())).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let expected = &case["expected"];
    assert_eq!(json!(flat()), expected["flattened_in_order"]);
    assert_eq!(json!(ctx.statistics().records), expected["records_received"]);
    assert_eq!(json!(flat().len()), expected["records_processed"]);
    ctx.stop(false).unwrap();
}

/// Rows `[key, state, last update]`.
fn rows(batch: &[Value]) -> Vec<Value> {
    sorted(batch.to_vec(), false)
}

/// Each row of the table is the chain of its bases' data, all of it in the batch at the update time.
fn transitions(case: &Value, threads: usize) {
    let table: BTreeMap<&str, &Value> =
        case["expected"].as_array().unwrap().iter().map(|row| (row["name"].as_str().unwrap(), row)).collect();
    let initial = case["params"]["initial"].as_array().unwrap();
    let (begin, update) = (initial[0][2].as_u64().unwrap(), case["params"]["update_time"].as_u64().unwrap());
    for (name, row) in &table {
        let (mut data, mut at) = (Vec::new(), *row);
        loop {
            let own = at["data"].as_array().unwrap().iter().map(|r| (r[0].clone(), r[1].as_i64().unwrap()));
            data.splice(0..0, own);
            match table.get(at["base"].as_str().unwrap()) {
                Some(base) => at = base,
                None => break,
            }
        }
        // The first batch, in which the initial states come, is at their time.
        let clock = windrow::stream::ManualClock::new();
        clock.set(Time::from_millis(begin - 1));
        let ctx = StreamingContext::builder()
            .batch_interval(Duration::from_millis(1))
            .threads(threads)
            .manual_clock(&clock)
            .build()
            .unwrap();
        let (records, calls) = (data.len(), Arc::new(Mutex::new(0)));
        let commands =
            ctx.computed_stream(move |time| Some(if time.millis() == update { data.clone() } else { vec![] }));
        let counting = calls.clone();
        let mapped = commands.map_with_state(
            move |_, _, command, state: &mut State<'_, i64>| -> Option<()> {
                *counting.lock().unwrap() += 1;
                match (command, state.get().copied()) {
                    (Some(1), old) => state.update(old.map_or(0, |old| old + 1)),
                    (Some(2), _) => state.remove(),
                    _ => {}
                }
                None
            },
            StateSpec::new().initial_state(states(&case["params"]["initial"])),
        );
        let states = collect(&mapped.state_snapshots_with_time().map(|(k, n, t)| json!([k, n, t.millis()])));
        ctx.start().unwrap();
        ctx.run_until(Time::from_millis(update)).unwrap();
        let all = states.lock().unwrap();
        let last = &all.last().unwrap().1;
        assert_eq!(rows(last), rows(row["expected"].as_array().unwrap()), "{name}");
        assert_eq!(*calls.lock().unwrap(), records, "{name}: only keys with records are touched");
        // What was seen before is not changed by what came after.
        assert_eq!(rows(&all[0].1), rows(initial), "{name}");
    }
}

/// Every sequence of puts and removals, one operation a batch, against a map.
fn model(case: &Value, threads: usize) {
    let get = |name: &str| case["params"][name].as_u64().unwrap();
    let (keys, rounds) = (get("keys"), get("sets") * get("ops_per_set"));
    let (ctx, _) = context(case, threads);
    let interval = case["batch_ms"].as_u64().unwrap();
    let operation = move |k: u64| (k % keys, (k % keys) >> (rounds - 1 - k / keys) & 1 == 0, k * 7919 % 1000);
    let commands = ctx.computed_stream(move |time| {
        let k = time.millis() / interval - 1;
        Some(
            if k < keys * rounds { vec![operation(k)] } else { vec![] }
                .into_iter()
                .map(|(k, p, v)| (k, (p, v)))
                .collect(),
        )
    });
    let mapped = commands.map_with_state(
        |_, _, command, state: &mut State<'_, u64>| -> Option<()> {
            match command {
                Some((true, value)) => state.update(value),
                Some((false, _)) => state.remove(),
                None => {}
            }
            None
        },
        StateSpec::new(),
    );
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = seen.clone();
    mapped.state_snapshots_with_time().for_each_batch(move |batch, time| {
        // Only the ends of rounds: a copy of all after each operation would be compared for minutes.
        if (time.millis() / interval).is_multiple_of(keys) {
            let mut states = batch.collect()?;
            states.sort_unstable();
            into.lock().unwrap().push(states);
        }
        Ok(())
    });
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(keys * rounds * interval)).unwrap();
    let mut reference = BTreeMap::new();
    let mut want = Vec::new();
    for k in 0..keys * rounds {
        let (key, put, value) = operation(k);
        if put {
            reference.insert(key, (value, Time::from_millis((k + 1) * interval)));
        } else {
            reference.remove(&key);
        }
        if (k + 1) % keys == 0 {
            want.push(reference.iter().map(|(key, (value, time))| (*key, *value, *time)).collect::<Vec<_>>());
        }
    }
    assert_eq!(*seen.lock().unwrap(), want);
}
