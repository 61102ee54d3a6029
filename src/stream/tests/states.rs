//! States against a map.

use super::{collected, context, ms, run, sorted};
use crate::stream::{State, StateSpec, Time};
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Update runs for every known key; a negative sum forgets the key.
    #[test]
    fn update_runs_for_every_known_key(
        batches in prop::collection::vec(prop::collection::vec((0u8..9, -5i64..9), 0..9), 1..15),
        threads in prop::sample::select(vec![1usize, 3]),
    ) {
        let got = sorted(run(threads, &batches, |s| {
            s.update_state_by_key(|values: Vec<i64>, state: Option<(i64, u64)>| {
                let (sum, calls) = state.unwrap_or_default();
                let sum = sum + values.iter().sum::<i64>();
                (sum >= 0).then_some((sum, calls + 1))
            })
        }));
        let mut states: BTreeMap<u8, (i64, u64)> = BTreeMap::new();
        for (i, batch) in batches.iter().enumerate() {
            batch.iter().for_each(|(key, _)| { states.entry(*key).or_default(); });
            batch.iter().for_each(|(key, value)| states.entry(*key).or_default().0 += value);
            states.retain(|_, state| state.0 >= 0);
            states.values_mut().for_each(|state| state.1 += 1);
            prop_assert_eq!(&got[i], &(i as u64 + 1, states.iter().map(|(k, s)| (*k, *s)).collect::<Vec<_>>()));
        }
    }

    /// 0 removes, 1 does nothing, others are added.
    #[test]
    fn mapped_states_are_those_of_a_map(
        batches in prop::collection::vec(prop::collection::vec((0u8..9, 0i64..6), 0..6), 1..25),
        timeout in prop::option::of(0u64..5), threads in prop::sample::select(vec![1usize, 3]),
    ) {
        let ctx = context(threads);
        let mut spec = StateSpec::new().initial_state([(0, 7), (20, 1), (20, 2)]);
        if let Some(timeout) = timeout {
            spec = spec.timeout(ms(timeout));
        }
        let mapped = ctx.queue_stream(batches.clone()).map_with_state(
            |_, key, value: Option<i64>, state: &mut State<'_, i64>| {
                assert_eq!(value.is_none(), state.is_timing_out());
                match value {
                    Some(0) if state.exists() => state.remove(),
                    Some(add @ 2..) => state.update(state.get().unwrap_or(&0) + add),
                    _ => {}
                }
                Some((*key, value, state.get().copied()))
            },
            spec,
        );
        let out = collected(&mapped);
        let states = collected(&mapped.state_snapshots_with_time().map(|(k, s, t)| (k, s, t.millis())));
        ctx.start().unwrap();
        ctx.run_until(Time::from_millis(batches.len() as u64)).unwrap();
        ctx.stop(false).unwrap();
        let out = sorted(std::mem::take(&mut *out.lock().unwrap()));
        let states = sorted(std::mem::take(&mut *states.lock().unwrap()));
        let mut twin: BTreeMap<u8, (i64, u64)> = [(0, (7, 1)), (20, (2, 1))].into();
        for (i, batch) in batches.iter().enumerate() {
            let time = i as u64 + 1;
            let mut rows = Vec::new();
            for (key, value) in batch {
                match value {
                    0 => drop(twin.remove(key)),
                    1 => {}
                    add => {
                        let state = twin.entry(*key).or_default();
                        *state = (state.0 + add, time);
                    }
                }
                if let (Some(state), true) = (twin.get_mut(key), timeout.is_some()) {
                    state.1 = time;
                }
                rows.push((*key, Some(*value), twin.get(key).map(|s| s.0)));
            }
            if let Some(timeout) = timeout {
                let overdue: Vec<u8> = twin.iter().filter(|(_, s)| s.1 + timeout < time).map(|(k, _)| *k).collect();
                rows.extend(overdue.into_iter().map(|key| (key, None, twin.remove(&key).map(|s| s.0))));
            }
            rows.sort();
            prop_assert_eq!(&out[i], &(time, rows));
            prop_assert_eq!(&states[i], &(time, twin.iter().map(|(k, s)| (*k, s.0, s.1)).collect::<Vec<_>>()));
        }
    }
}
