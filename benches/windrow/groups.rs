//! The gate of the design: the shared core against loops over a plain `hashbrown` map, one thread, `u64` keys.
//!
//! Tumbling count: the core may take at most 1.3 times as long as the loop. Sliding count: from eight slides per window
//! on it must be ahead of every plain loop. The ratios of the fastest samples are printed after the group.
//!
//! The loops are what one writes by hand, with `ahash` and a map that is reused: `tumbling` counts into one map and
//! empties it at each end of a window; `every window` counts each record in each of its windows; `add and remove` keeps
//! the records of the window and takes out those that left.

use crate::data::Events;
use crate::typed::{Answer, count};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::time::{Duration, Instant};
use windrow::core::groups::{Groups, TypedKeys};
use windrow::core::window::WindowSpec;
use windrow::hash::hash_word;

/// Records of the sliding benches and of interning.
const RECORDS: usize = 4_000_000;
/// Records of the tumbling benches: enough for a table of a million keys to be used and not only to grow.
const TUMBLING_RECORDS: usize = 16_000_000;
/// The instants of the records span this many slides.
const SLIDES: usize = 64;
const SECOND: i64 = 1_000_000;

type Map = HashMap<u64, u64, ahash::RandomState>;

fn map() -> Map {
    Map::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4))
}

fn emit(map: &Map, answer: &mut Answer) {
    map.iter().for_each(|(key, count)| answer.row(*key, *count));
}

/// Counts each record in the one window it has.
fn tumbling(events: &Events, spec: WindowSpec) -> Answer {
    let (mut answer, mut map, mut end) = (Answer::default(), map(), i64::MIN);
    for (time, key) in events.times.iter().zip(&events.keys) {
        if *time >= end {
            emit(&map, &mut answer);
            map.clear();
            end = spec.pane_of(*time).2;
        }
        *map.entry(*key).or_insert(0) += 1;
    }
    emit(&map, &mut answer);
    answer
}

/// Counts each record in each of its windows.
fn every_window(events: &Events, spec: WindowSpec) -> Answer {
    let mut answer = Answer::default();
    let mut open: BTreeMap<i64, Map> = BTreeMap::new();
    let mut spare: Vec<Map> = Vec::new();
    let (mut end, mut windows) = (i64::MIN, (0, 0));
    for (time, key) in events.times.iter().zip(&events.keys) {
        if *time >= end {
            let pane = spec.pane_of(*time);
            (end, windows) = (pane.2, spec.windows_of(pane.0));
            while let Some(first) = open.first_entry()
                && *first.key() < windows.0
            {
                let mut map = first.remove();
                emit(&map, &mut answer);
                map.clear();
                spare.push(map);
            }
            for window in windows.0..=windows.1 {
                open.entry(window).or_insert_with(|| spare.pop().unwrap_or_else(map));
            }
        }
        for (_, map) in open.range_mut(windows.0..=windows.1) {
            *map.entry(*key).or_insert(0) += 1;
        }
    }
    open.values().for_each(|map| emit(map, &mut answer));
    answer
}

/// Keeps the window's records; adds those that enter and removes those that leave.
fn add_and_remove(events: &Events, spec: WindowSpec) -> Answer {
    let (mut answer, mut map) = (Answer::default(), map());
    let mut inside: VecDeque<(i64, u64)> = VecDeque::new();
    let mut next = 0;
    let ends = (events.times.first(), events.times.last());
    let (Some(first), Some(last)) = ends else { return answer };
    let windows = spec.windows_of(spec.pane_of(*first).0).0..=spec.windows_of(spec.pane_of(*last).0).1;
    for window in windows {
        let (from, to) = spec.bounds(window);
        while next < events.times.len() && events.times[next] < to {
            inside.push_back((events.times[next], events.keys[next]));
            *map.entry(events.keys[next]).or_insert(0) += 1;
            next += 1;
        }
        while let Some(&(time, key)) = inside.front()
            && time < from
        {
            inside.pop_front();
            if let hashbrown::hash_map::Entry::Occupied(mut count) = map.entry(key) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        emit(&map, &mut answer);
    }
    answer
}

/// The fastest iteration of each bench, for the ratios.
#[derive(Default)]
struct Fastest(Vec<(&'static str, Duration)>);

impl Fastest {
    /// Runs `work` `times` times, as criterion wants it, and remembers.
    fn measure(&mut self, name: &'static str, times: u64, mut work: impl FnMut() -> Answer) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..times {
            let started = Instant::now();
            black_box(work());
            let took = started.elapsed();
            total += took;
            match self.0.iter_mut().find(|known| known.0 == name) {
                Some(known) => known.1 = known.1.min(took),
                None => self.0.push((name, took)),
            }
        }
        total
    }

    fn of(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|known| known.0 == name).map(|known| known.1.as_secs_f64())
    }

    /// Says how many times as long as each rival the core took.
    fn print(&self, title: &str) {
        for core in ["core", "core in 64 partitions"] {
            for rival in ["tumbling loop", "every window", "add and remove"] {
                if let (Some(ours), Some(theirs)) = (self.of(core), self.of(rival)) {
                    println!("gate: {title}: {core} / {rival} = {:.2}", ours / theirs);
                }
            }
        }
    }
}

pub fn benches(c: &mut Criterion) {
    interning(c);
    for keys in [1_000, 1_000_000] {
        let name = if keys == 1_000 { "1k keys" } else { "1M keys" };
        for slides in [1i64, 8, 16] {
            let records = if slides == 1 { TUMBLING_RECORDS } else { RECORDS };
            let events = Events::new(records, SLIDES, keys);
            // The tumbling windows are eight slides long: two million records each.
            let length = if slides == 1 { 8 } else { slides };
            let slide = if slides == 1 { length } else { 1 };
            let spec = WindowSpec::new(length * SECOND, slide * SECOND, 0).expect("a window");
            let mut fastest = Fastest::default();
            let title = if slides == 1 { "tumbling count" } else { "sliding count" };
            let mut group = c.benchmark_group(if slides == 1 { title.to_owned() } else { format!("{title} {slides}") });
            group.sampling_mode(SamplingMode::Flat);
            group.throughput(Throughput::ElementsAndBytes { elements: records as u64, bytes: 16 * records as u64 });

            let expected = add_and_remove(&events, spec);
            let (times, keys) = (&events.times, &events.keys);
            type Run<'a> = (&'static str, Box<dyn FnMut() -> Answer + 'a>);
            let mut runs: Vec<Run<'_>> = vec![
                ("core", Box::new(|| count(times, keys, spec, 0))),
                ("core in 64 partitions", Box::new(|| count(times, keys, spec, 6))),
            ];
            if slides == 1 {
                runs.push(("tumbling loop", Box::new(|| tumbling(&events, spec))));
            } else {
                runs.push(("every window", Box::new(|| every_window(&events, spec))));
                runs.push(("add and remove", Box::new(|| add_and_remove(&events, spec))));
            }
            for (what, mut run) in runs {
                assert_eq!(run(), expected, "{what}");
                group.bench_function(BenchmarkId::new(what, name), |b| {
                    b.iter_custom(|times| fastest.measure(what, times, &mut run));
                });
            }
            group.finish();
            fastest.print(&format!("{title}, window/slide {slides}, {name}"));
        }
    }
}

/// Interning alone: every record's key becomes an id.
fn interning(c: &mut Criterion) {
    let mut group = c.benchmark_group("interning");
    group.throughput(Throughput::ElementsAndBytes { elements: RECORDS as u64, bytes: 8 * RECORDS as u64 });
    for keys in [1_000, 1_000_000] {
        let name = if keys == 1_000 { "1k keys" } else { "1M keys" };
        let keys = Events::new(RECORDS, 1, keys).keys;
        let hashes: Vec<u64> = keys.iter().map(|key| hash_word(*key)).collect();
        let core = || {
            let (mut groups, mut ids) = (Groups::new(TypedKeys::default()), Vec::new());
            groups.intern(&keys, &hashes, 0..keys.len(), &mut ids);
            (groups, ids)
        };
        let plain = || {
            let mut map = map();
            let ids: Vec<u32> = (keys.iter())
                .map(|key| {
                    let next = map.len() as u64;
                    *map.entry(*key).or_insert(next) as u32
                })
                .collect();
            (map, ids)
        };
        let ((groups, ids), (map, plain_ids)) = (core(), plain());
        assert!(groups.len() == map.len() && ids == plain_ids, "both number keys as they come");
        group.bench_function(BenchmarkId::new("core", name), |b| b.iter_with_large_drop(core));
        group.bench_function(BenchmarkId::new("hashbrown", name), |b| b.iter_with_large_drop(plain));
    }
    group.finish();
}
