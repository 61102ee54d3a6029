//! The micro-batch facts of the shared cases, run against the typed face with 1 and 4 threads, with
//! memory and with next to none.
//!
//! A case is a chain of operators in another engine's words over a table of input batches. The chain is interpreted, so
//! that a case that is added needs no code here unless it brings an operator or a setting of its own.

use crate::lambda::Lambda;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use windrow::stream::{Codec, DStream, ManualClock, Partitioner, State, StateSpec, StreamingContext, Time};

/// Why a row is not run.
pub type Left = &'static str;

const ELSEWHERE: Left = "about the layout of another engine's state store";

thread_local! {
    /// Whether contexts have next to no memory.
    static LIMITED: Cell<bool> = const { Cell::new(false) };
}

/// Bytes that cases spilled.
static SPILLED: AtomicU64 = AtomicU64::new(0);

/// Pairs of any values on disk.
struct Json;

impl Codec<(Value, Value)> for Json {
    fn encode(&self, record: &(Value, Value), out: &mut Vec<u8>) -> windrow::Result<()> {
        serde_json::to_writer(out, record).unwrap();
        Ok(())
    }

    fn decode(&self, bytes: &mut &[u8]) -> windrow::Result<(Value, Value)> {
        let mut records = serde_json::Deserializer::from_slice(bytes).into_iter();
        let record = records.next().unwrap().unwrap();
        *bytes = &bytes[records.byte_offset()..];
        Ok(record)
    }
}

pub fn millis(value: &Value) -> Duration {
    Duration::from_millis(value.as_u64().unwrap())
}

pub fn context(case: &Value, threads: usize) -> (StreamingContext, ManualClock) {
    let clock = ManualClock::new();
    let mut builder = StreamingContext::builder().batch_interval(millis(&case["batch_ms"])).threads(threads);
    if let Some(partitions) = case["params"]["input_partitions"].as_u64() {
        builder = builder.partitions(partitions as usize);
    }
    if LIMITED.get() {
        builder = builder.memory_limit(64);
    }
    (builder.manual_clock(&clock).build().unwrap(), clock)
}

/// The stream of a table of batches; `null` is no dataset.
pub fn input(ctx: &StreamingContext, case: &Value, table: &Value) -> DStream<Value> {
    let table: Vec<Option<Vec<Value>>> = match &table["batches_as_ranges"] {
        Value::Array(ranges) => ranges.iter().map(|r| Some(range(r))).collect(),
        _ => table.as_array().into_iter().flatten().map(|batch| batch.as_array().cloned()).collect(),
    };
    let interval = case["batch_ms"].as_u64().unwrap();
    ctx.computed_stream(move |time| table.get((time.millis() / interval) as usize - 1).cloned().unwrap_or(Some(vec![])))
}

pub fn range(ends: &Value) -> Vec<Value> {
    (ends[0].as_i64().unwrap()..=ends[1].as_i64().unwrap()).map(Value::from).collect()
}

fn pairs(stream: &DStream<Value>) -> DStream<(Value, Value)> {
    stream.map(|row| (row[0].clone(), row[1].clone())).spillable_with(Arc::new(Json))
}

fn rows(stream: &DStream<(Value, Value)>) -> DStream<Value> {
    stream.map(|(key, value)| json!([key, value]))
}

fn binary(f: &Lambda) -> impl Fn(&Value, &Value) -> Value + Clone + Send + Sync + 'static {
    let f = f.clone();
    move |a, b| f.call(&[a.clone(), b.clone()])
}

/// What a chain is interpreted in.
struct Scene<'a> {
    case: &'a Value,
    ctx: &'a StreamingContext,
    streams: BTreeMap<&'static str, DStream<Value>>,
}

impl Scene<'_> {
    fn param(&self, name: &str) -> &Value {
        &self.case["params"][name]
    }

    /// The function given with the operator, or among the parameters.
    fn function(&self, given: &str, names: &[&str]) -> Option<Lambda> {
        if !given.is_empty() {
            return Lambda::parse(given);
        }
        names.iter().find_map(|name| self.param(name).as_str()).and_then(Lambda::parse)
    }

    fn window(&self) -> (Duration, Duration) {
        let window = millis(self.param("window_ms"));
        (window, self.param("slide_ms").as_u64().map_or(millis(&self.case["batch_ms"]), Duration::from_millis))
    }

    /// The stream that an expression stands for: a name, operators behind dots, or two of them around a join.
    fn stream(&self, text: &str) -> std::result::Result<DStream<Value>, Left> {
        let text = text.trim();
        for join in ["cogroup", "join", "leftOuterJoin", "rightOuterJoin", "fullOuterJoin", "union"] {
            if let Some((left, right)) = text.split_once(&format!(" {join} ")) {
                let right = self.stream(right)?;
                return self.apply(&self.stream(left)?, join, "", Some(right));
            }
        }
        if let Some(list) = text.strip_prefix("context.union([").and_then(|rest| rest.strip_suffix("])")) {
            let streams: std::result::Result<Vec<_>, Left> = split(list, ',').map(|s| self.stream(s)).collect();
            return Ok(self.ctx.union(streams?));
        }
        let mut stream = None;
        for link in split(text, '.') {
            if let Some(named) = self.streams.get(link) {
                stream = Some(named.clone());
                continue;
            }
            let (name, given) = match link.split_once('(') {
                Some((name, rest)) => (name, rest.strip_suffix(')').unwrap_or(rest)),
                None => (link, ""),
            };
            let from = stream.unwrap_or_else(|| self.streams["s"].clone());
            let other = given.split(',').find_map(|word| self.streams.get(word.trim())).cloned();
            stream = Some(self.apply(&from, name, given, other)?);
        }
        stream.ok_or("an empty chain")
    }

    fn apply(
        &self,
        s: &DStream<Value>,
        name: &str,
        given: &str,
        other: Option<DStream<Value>>,
    ) -> std::result::Result<DStream<Value>, Left> {
        let one = || self.function(given, &["f"]).ok_or("a function that this runner cannot read");
        let two = || self.function(given, &["reduce", "f"]).ok_or("a function that this runner cannot read");
        let other = || other.clone().or_else(|| self.streams.get("s2").cloned()).ok_or("no second stream");
        Ok(match name {
            "map" => {
                let f = one()?;
                s.map(move |x| f.call(&[x]))
            }
            "flatMap" => {
                let f = one()?;
                s.flat_map(move |x| f.call(&[x]).as_array().unwrap().clone())
            }
            "filter" => {
                let f = one()?;
                s.filter(move |x| f.call(std::slice::from_ref(x)) == json!(true))
            }
            "glom" => s.glom().map(Value::from),
            "mapPartitions" => s.map_partitions(|records| [json!(records.map(|x| x.as_i64().unwrap()).sum::<i64>())]),
            "repartition" => {
                s.repartition(self.param("output_partitions").as_u64().unwrap() as usize).glom().map(Value::from)
            }
            "count" => s.count().map(Value::from),
            "countByValue" => s.count_by_value().map(|(x, n)| json!([x, n])),
            "reduce" => s.reduce(binary(&two()?)),
            "reduceByKey" => rows(&pairs(s).reduce_by_key(binary(&two()?))),
            "groupByKey" => pairs(s).group_by_key().map(|(k, all)| json!([k, all])),
            "mapValues" => {
                let f = one()?;
                rows(&pairs(s).map_values(move |v| f.call(&[v])))
            }
            "flatMapValues" => {
                let f = one()?;
                rows(&pairs(s).flat_map_values(move |v| f.call(&[v]).as_array().unwrap().clone()))
            }
            "union" => s.union(&other()?),
            "transform" => {
                let f = one()?;
                s.transform(move |batch, _| {
                    let f = f.clone();
                    batch.map(move |x| f.call(&[x]))
                })
            }
            "transformWith" if given.contains("join") => s.transform_with(&other()?, |a, b, _| {
                let pair = |x: Value| (x[0].clone(), x[1].clone());
                a.map(pair).join(b.map(pair)).map(|(k, (v, w))| json!([k, [v, w]]))
            }),
            "cogroup" => pairs(s).cogroup(&pairs(&other()?)).map(|(k, (v, w))| json!([k, [v, w]])),
            "join" => pairs(s).join(&pairs(&other()?)).map(|(k, (v, w))| json!([k, [v, w]])),
            "leftOuterJoin" => pairs(s).left_outer_join(&pairs(&other()?)).map(|(k, (v, w))| json!([k, [v, w]])),
            "rightOuterJoin" => pairs(s).right_outer_join(&pairs(&other()?)).map(|(k, (v, w))| json!([k, [v, w]])),
            "fullOuterJoin" => pairs(s).full_outer_join(&pairs(&other()?)).map(|(k, (v, w))| json!([k, [v, w]])),
            "window" => {
                let (window, slide) = self.window();
                s.window(window, slide)
            }
            "countByWindow" => {
                let (window, slide) = self.window();
                s.count_by_window(window, slide).map(Value::from)
            }
            "countByValueAndWindow" => {
                let (window, slide) = self.window();
                s.count_by_value_and_window(window, slide).map(|(x, n)| json!([x, n]))
            }
            "groupByKeyAndWindow" => {
                let (window, slide) = self.window();
                pairs(s).group_by_key_and_window(window, slide).map(|(k, all)| json!([k, all]))
            }
            _ if name.starts_with("reduceByWindow") => {
                let (window, slide) = self.window();
                let reduce = self.function("", &["reduce", "f"]).ok_or("no reduce function")?;
                match self.function("", &["inverse"]) {
                    Some(inverse) => s.reduce_by_window(binary(&reduce), binary(&inverse), window, slide),
                    None => s.reduce_by_window_without_inverse(binary(&reduce), window, slide),
                }
            }
            _ if name.starts_with("reduceByKeyAndWindow") => {
                let (window, slide) = self.window();
                let reduce = self.function("", &["reduce", "f"]).ok_or("no reduce function")?;
                let (s, reduce) = (pairs(s), binary(&reduce));
                rows(&match (self.function("", &["inverse"]), self.function("", &["filter"])) {
                    (Some(inverse), None) => s.reduce_by_key_and_window(reduce, binary(&inverse), window, slide),
                    (Some(inverse), Some(keep)) => {
                        let keep = move |row: &(Value, Value)| keep.call(std::slice::from_ref(&row.1)) == json!(true);
                        s.reduce_by_key_and_window_filtered(reduce, binary(&inverse), window, slide, keep)
                    }
                    (None, _) => s.reduce_by_key_and_window_without_inverse(reduce, window, slide),
                })
            }
            "updateStateByKey" if given.contains("expiry") => {
                let counts = pairs(s).update_state_by_key(|ones, state: Option<(usize, usize)>| {
                    let (counter, idle) = state.unwrap_or_default();
                    let idle = if ones.is_empty() { idle + 1 } else { 0 };
                    (idle < 2).then_some((counter + ones.len(), idle))
                });
                counts.map(|(k, (counter, _))| json!([k, counter]))
            }
            "updateStateByKey" => {
                let initial = states(self.param("initial"));
                let by = Partitioner::hash(3);
                let sum = |_, _: &Value, values: Vec<Value>, state: Option<i64>| {
                    Some(values.iter().map(|v| v.as_i64().unwrap()).sum::<i64>() + state.unwrap_or(0))
                };
                pairs(s).update_state_by_key_with(sum, by, initial).map(|(k, n)| json!([k, n]))
            }
            "checkpoint" => {
                s.checkpoint(millis(self.param("checkpoint_ms")));
                s.clone()
            }
            _ => return Err("an operator that this runner does not know"),
        })
    }
}

/// Cuts at `mark` outside of parentheses and brackets.
fn split(text: &str, mark: char) -> impl Iterator<Item = &str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ if c == mark && depth == 0 => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts.into_iter().filter(|part| !part.is_empty())
}

pub fn states(pairs: &Value) -> Vec<(Value, i64)> {
    pairs.as_array().into_iter().flatten().map(|p| (p[0].clone(), p[1].as_i64().unwrap())).collect()
}

/// What came out, by time.
pub type Collected = Arc<Mutex<Vec<(Time, Vec<Value>)>>>;

pub fn collect(stream: &DStream<Value>) -> Collected {
    let all = Collected::default();
    let into = all.clone();
    stream.for_each_batch(move |batch, time| {
        into.lock().unwrap().push((time, batch.collect()?));
        Ok(())
    });
    all
}

/// Rows in an order of their own; lists of values of a key, too.
pub fn sorted(mut batch: Vec<Value>, lists: bool) -> Vec<Value> {
    for list in batch.iter_mut().filter(|_| lists).filter_map(|row| row.get_mut(1)?.as_array_mut()) {
        list.sort_by_key(Value::to_string);
    }
    batch.sort_by_key(Value::to_string);
    batch
}

/// Runs a chain of operators over a table of batches and compares.
fn chain(case: &Value, threads: usize) -> std::result::Result<(), Left> {
    let name = case["name"].as_str().unwrap();
    let (ctx, _) = context(case, threads);
    let mut op = case["op"].as_str().unwrap().to_owned();
    if op == "see name" {
        op = name.split(' ').next().unwrap().to_owned();
    }
    // Joins of plain keys say what their values are.
    let mut streams = BTreeMap::new();
    for (which, names) in [("input", &["s", "s1", "t1"][..]), ("input2", &["s2", "t2"][..])] {
        if case[which].is_null() && which == "input2" {
            // A union with itself is a union, too.
            continue;
        }
        let mut stream = input(&ctx, case, &case[which]);
        let value = &case["params"][if which == "input" { "left_value" } else { "right_value" }];
        if !value.is_null() && !op.contains("map(") {
            let value = value.clone();
            stream = stream.map(move |x| json!([x, value]));
        }
        names.iter().for_each(|name| drop(streams.insert(*name, stream.clone())));
    }
    if !streams.contains_key("s2") {
        streams.insert("s2", streams["s"].clone());
    }
    let scene = Scene { case, ctx: &ctx, streams };
    if op.starts_with("slice") {
        let stream = &scene.streams["s"];
        let sliced = stream.slice(Time::from_millis(0), Time::from_millis(1000));
        assert_eq!(sliced.is_err(), case["expected_error"] == true, "{name}");
        return Ok(());
    }
    let out = scene.stream(&op)?;
    let collected = collect(&out);
    let slide = out.slide_duration().as_micros() as u64;
    let tables = [&case["expected"], &case["expected"]["partitions_per_batch"], &case["input"]];
    let batches = tables.iter().find_map(|table| table.as_array()).map_or(1, Vec::len).max(1) as u64;
    let outcome = ctx.start().and_then(|()| ctx.run_until(Time::from_micros(batches * slide)));
    if case["expected_error"] == true {
        assert!(outcome.is_err(), "{name}: an error is expected");
        return Ok(());
    }
    outcome.unwrap_or_else(|e| panic!("{name}: {e}"));
    let got: Vec<_> = std::mem::take(&mut *collected.lock().unwrap());
    let expected = &case["expected"];
    if let Some(counts) = expected["partitions_per_batch"].as_array() {
        let got_counts: Vec<Value> = got.iter().take(counts.len()).map(|(_, glommed)| json!(glommed.len())).collect();
        assert_eq!(&got_counts, counts, "{name}");
        for ((_, glommed), want) in got.into_iter().zip(expected["flattened_set_as_ranges"].as_array().unwrap()) {
            let flat = glommed.into_iter().flat_map(|part| part.as_array().unwrap().clone()).collect();
            assert_eq!(sorted(flat, false), sorted(range(want), false), "{name}");
        }
        return Ok(());
    }
    SPILLED.fetch_add(ctx.statistics().spilled_bytes, Ordering::Relaxed);
    let lists = name.contains("roup");
    let order = |batch: Vec<Value>| match case["compare"].as_str().unwrap() {
        "sequence_per_batch" => batch,
        _ => sorted(batch, lists),
    };
    let got: Vec<_> = got.into_iter().map(|(_, batch)| order(batch)).collect();
    let want: Vec<_> =
        expected.as_array().unwrap().iter().map(|batch| order(batch.as_array().unwrap().clone())).collect();
    assert_eq!(got, want, "{name} with {threads} threads");
    Ok(())
}

/// A function of state that adds and returns nothing, and the states after each batch.
fn snapshots(case: &Value, threads: usize) {
    let name = case["name"].as_str().unwrap();
    let (ctx, _) = context(case, threads);
    let words = input(&ctx, case, &case["input"]).map(|x| (x, 1));
    let add = |_: Time, _: &Value, value: Option<i64>, state: &mut State<'_, i64>| -> Option<Value> {
        state.update(value.unwrap_or(0) + state.get().unwrap_or(&0));
        None
    };
    let mapped = words.map_with_state(add, StateSpec::new().initial_state(states(&case["params"]["initial"])));
    let returned = collect(&mapped);
    let states = collect(&mapped.state_snapshots().map(|(k, n)| json!([k, n])));
    ctx.start().unwrap();
    let want = case["expected_state_snapshots"].as_array().unwrap();
    ctx.run_until(Time::from_millis(want.len() as u64 * case["batch_ms"].as_u64().unwrap())).unwrap();
    let batches = |all: Collected| -> Vec<Vec<Value>> {
        std::mem::take(&mut *all.lock().unwrap()).into_iter().map(|(_, batch)| sorted(batch, false)).collect()
    };
    let arrays = |all: &[Value]| -> Vec<Vec<Value>> {
        all.iter().map(|batch| sorted(batch.as_array().unwrap().clone(), false)).collect()
    };
    assert_eq!(batches(returned), arrays(case["expected"].as_array().unwrap()), "{name}");
    assert_eq!(batches(states), arrays(want), "{name}");
}

fn check(case: &Value, threads: usize) -> std::result::Result<(), Left> {
    let op = case["op"].as_str().unwrap();
    let name = case["name"].as_str().unwrap();
    if name == "StateMap/delta chain compaction" {
        return Err(ELSEWHERE);
    } else if !case["expected_state_snapshots"].is_null() {
        snapshots(case, threads);
        return Ok(());
    }
    match crate::dstream_special::check(case, op, threads) {
        Some(()) => Ok(()),
        None => chain(case, threads),
    }
}

#[test]
fn micro_batch_cases() {
    let Some(shared) = std::env::var_os("WINDROW_SHARED") else {
        println!("skipped: WINDROW_SHARED is not set");
        return;
    };
    let text = std::fs::read_to_string(std::path::Path::new(&shared).join("cases/dstream.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let (mut ran, mut left) = (0, Vec::new());
    for case in cases["cases"].as_array().unwrap() {
        let outcome = [(1, false), (4, false), (1, true), (4, true)].into_iter().try_for_each(|(threads, limited)| {
            LIMITED.set(limited);
            check(case, threads)
        });
        match outcome {
            Ok(()) => ran += 1,
            Err(why) => left.push((case["name"].as_str().unwrap(), why)),
        }
    }
    println!(
        "dstream.json: {ran} cases ran with 1 and 4 threads, with and without memory, {} are left out:",
        left.len()
    );
    left.iter().for_each(|(name, why)| println!("  {name}: {why}"));
    assert!(left.iter().all(|(_, why)| *why == ELSEWHERE), "rows without a reason");
    assert_eq!((ran, left.len()), (36, 1));
    assert!(SPILLED.load(Ordering::Relaxed) > 0, "no case spilled");
}
