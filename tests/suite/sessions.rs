//! `--session`: which records belong together, what is printed, the same bytes every way, and what is refused.

use crate::run::{file, rows, windrow, windrow_with};
use windrow::query::{Query, Session, Window};

fn sessions(flags: &[&str], text: &str) -> String {
    windrow_with(&[&["replay", "-", "--stats"], flags].concat(), text.as_bytes()).good().out
}

#[test]
fn records_at_most_the_gap_apart_are_one_session() {
    // Key a: exactly the gap, then a microsecond more. Key b: two sessions that the last record bridges. No key: alone.
    let text = "ts,k,v\n\
         2024-01-01T00:00:00Z,a,1\n\
         2024-01-01T00:00:20Z,b,2\n\
         2024-01-01T00:00:10Z,a,4\n\
         2024-01-01T00:00:00Z,b,8\n\
         2024-01-01T00:00:20.000001Z,a,16\n\
         2024-01-01T00:00:05Z,,32\n\
         2024-01-01T00:00:10Z,b,64\n";
    let flags = ["--key", "k", "--agg", "count,sum(v),first(v),last(v)", "--session", "10s"];
    let out = sessions(&flags, text);
    let want = "window_start,window_end,k,count,sum_v,first_v,last_v\n\
         2024-01-01T00:00:05Z,2024-01-01T00:00:15Z,,1,32,32,32\n\
         2024-01-01T00:00:00Z,2024-01-01T00:00:20Z,a,2,5,1,4\n\
         2024-01-01T00:00:00Z,2024-01-01T00:00:30Z,b,3,74,8,2\n\
         2024-01-01T00:00:20.000001Z,2024-01-01T00:00:30.000001Z,a,1,16,16,16\n";
    assert_eq!(out, want);
    // Without a key there is one group; a condition on the rows looks at bounds, too.
    let all = sessions(&["--session", "10s"], text);
    assert_eq!(all, "window_start,window_end,count\n2024-01-01T00:00:00Z,2024-01-01T00:00:30.000001Z,7\n");
    let one =
        sessions(&[&flags[..], &["--having", "count = 2 and window_end > '2024-01-01T00:00:10Z'"]].concat(), text);
    assert_eq!(one, [want.lines().next().unwrap(), want.lines().nth(2).unwrap(), ""].join("\n"));
    // Nothing in, no row out.
    let none = sessions(&[&flags[..], &["--where", "v > 100"]].concat(), text);
    assert_eq!(none.lines().count(), 1);
}

#[test]
fn sessions_end_where_time_ends() {
    let text =
        "{\"ts\":\"0001-01-01T00:00:00Z\"}\n{\"ts\":\"9999-12-31T23:00:00Z\"}\n{\"ts\":\"9999-12-31T10:00:00Z\"}\n";
    let out = sessions(&["--session", "12h59m"], text);
    let want = [
        ["0001-01-01T00:00:00Z", "0001-01-01T12:59:00Z", "1"],
        ["9999-12-31T10:00:00Z", "9999-12-31T22:59:00Z", "1"],
        ["9999-12-31T23:00:00Z", "9999-12-31T23:59:59.999999Z", "1"],
    ];
    assert_eq!(rows(&out), want);
    // Ends that time cuts off are the same end: then starts decide.
    let text = "ts,k\n9999-12-31T23:30:00Z,b\n9999-12-31T23:00:00Z,a\n9999-12-31T23:59:00Z,a\n";
    let out = sessions(&["--session", "59m", "--key", "k"], text);
    assert_eq!(rows(&out).iter().map(|r| &r[2]).collect::<Vec<_>>(), ["a", "b"]);
    let out = sessions(&["--session", "4000000d"], "{\"ts\":0}\n{\"ts\":\"0001-01-01T00:00:00Z\"}\n");
    assert_eq!(rows(&out), [["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2"]]);
}

#[test]
fn the_same_bytes_on_any_number_of_threads_and_the_same_rows_by_sorting() {
    // Bursts of 40 records 3 s apart, pauses of some minutes, and every record up to 40 s out of place.
    let text: String = (0..120_000u64)
        .map(|i| {
            let (key, burst) = (i * 7919 % 97, i / 97 / 40);
            let second = i / 97 * 3 + burst * (90 + key * 11 % 200) + i * 31 % 40;
            format!(
                "{{\"ts\":{second},\"k\":{key},\"v\":{},\"f\":{}.{},\"host\":\"h{}\"}}\n",
                i % 1000,
                i % 991,
                i % 7,
                i % 13
            )
        })
        .collect();
    assert!(text.len() > 4 << 20, "more than one block");
    let (_dir, path) = file("x.ndjson", text.as_bytes());
    let list = "count,sum(v),min(v),max(host),distinct(host),p90(v),first(v),last(host),count_if(v > 500)";
    let run = |flags: &[&str]| {
        windrow(&[&["replay", &path, "--key", "k", "--session", "45s", "--agg", list, "--stats"], flags].concat())
            .good()
    };
    let want = run(&[]);
    assert_eq!((want.stat("used"), want.stat("keys")), (120_000, 97));
    let bursts = 97 * 31;
    assert_eq!((want.stat("windows"), want.stat("rows_out")), (bursts, bursts));
    for flags in [&["--threads", "1"][..], &["--threads", "5"], &["--engine", "remerge"], &["--naive"]] {
        assert!(run(flags).out == want.out, "{flags:?}");
    }
    // Floats: bytes do not depend on threads, though sums depend on the order of folds.
    let floats = |flags: &[&str]| {
        let args = ["replay", &path, "--key", "k", "--session", "45s", "--agg", "sum(f),avg(f),var(f)"];
        windrow(&[&args, flags].concat()).good().out
    };
    let alone = floats(&["--threads", "1"]);
    assert_eq!(alone.lines().count() as u64, bursts + 1);
    assert!(alone == floats(&["--threads", "4"]));
}

#[test]
fn with_a_bound_sessions_close_for_good() {
    // Gap 10 s, bound 5 s: after 40 the watermark is 35. The session of a at 0 to 8 has closed at 18.
    let text = "ts,k,v\n0,a,1\n8,a,2\n40,b,4\n17,a,8\n26,a,16\n25,a,32\n18,a,64\n60,b,128\n";
    let flags = ["--key", "k", "--session", "10s", "--agg", "count,sum(v)", "--lateness", "5s"];
    let ran = windrow_with(&[&["replay", "-", "--stats"], &flags[..]].concat(), text.as_bytes()).good();
    // 17 and 18 are within the gap of that session, which is gone; 17 alone would have closed at 27. 26 begins another, 25 is
    // still open by itself as well, and 18 joins what it touches: it is not late.
    let want = [
        ["1970-01-01T00:00:00Z", "1970-01-01T00:00:18Z", "a", "2", "3"],
        ["1970-01-01T00:00:18Z", "1970-01-01T00:00:36Z", "a", "3", "112"],
        ["1970-01-01T00:00:40Z", "1970-01-01T00:00:50Z", "b", "1", "4"],
        ["1970-01-01T00:01:00Z", "1970-01-01T00:01:10Z", "b", "1", "128"],
    ];
    assert_eq!(rows(&ran.out), want);
    assert_eq!((ran.stat("late"), ran.stat("used"), ran.stat("max_disorder_us")), (1, 7, 23_000_000));
    assert!(ran.err.contains("1 of 8 records came after"), "{}", ran.err);
    let exact = windrow_with(&[&["replay", "-"], &flags[..6], &["--lateness", "23s"]].concat(), text.as_bytes()).good();
    assert_eq!(rows(&exact.out)[0][..4], ["1970-01-01T00:00:00Z", "1970-01-01T00:00:36Z", "a", "6"]);
    // The naive run judges the same way.
    let naive = windrow_with(&[&["replay", "-", "--naive"], &flags[..]].concat(), text.as_bytes()).good();
    assert_eq!(naive.out, ran.out);
}

#[test]
fn with_a_bound_memory_holds_what_is_open() {
    // 900,000 keys, each of three records within 2 s, one behind the other.
    let text: String = (0..2_700_000u64).map(|i| format!("{},{}\n", i / 300, i / 900 * 300 + i % 300)).collect();
    let (_dir, path) = file("x.csv", format!("ts,k\n{text}").as_bytes());
    let run = |flags: &[&str]| {
        let args = ["replay", &path, "--key", "k", "--session", "5s", "-o", "null", "--threads", "1", "--stats"];
        windrow(&[&args, flags].concat()).good()
    };
    let (whole, stream) = (run(&[]), run(&["--lateness", "10s"]));
    for name in ["rows_out", "windows", "rows_checksum"] {
        assert_eq!(whole.stats()[name], stream.stats()[name], "{name}");
    }
    assert_eq!((whole.stat("rows_out"), whole.stat("keys")), (900_000, 900_000));
    assert!(stream.stat("keys") < 600_000, "{}", stream.stat("keys"));
    assert!(stream.stat("peak_memory_bytes") < whole.stat("peak_memory_bytes"), "keys of closed sessions are freed");
}

#[test]
fn one_or_the_other() {
    let (_dir, path) = file("a.ndjson", b"{\"ts\":0,\"v\":9223372036854775807}\n{\"ts\":60,\"v\":5}\n");
    let cases: [(&[&str], &str); 6] = [
        (&["--session", "30s", "--window", "1m"], "--window"),
        (&["--session", "30s", "--slide", "1m"], "--slide"),
        (&["--session", "30s", "--offset", "1m"], "--offset"),
        (&["--session", "0s"], "the gap of sessions must be longer than zero"),
        (&["--session", "30"], "30"),
        (&["--session", "4000001d"], "too long"),
    ];
    for (flags, says) in cases {
        let error = windrow(&[&["replay", &path], flags].concat()).fails(2);
        assert!(error.contains(says), "{flags:?}: {error}");
    }
    // A session whose sum overflows is named.
    windrow(&["replay", &path, "--session", "59s", "--agg", "sum(v)"]).good();
    let error = windrow(&["replay", &path, "--session", "60s", "--agg", "sum(v)"]).fails(1);
    assert!(error.contains("sum_v") && error.contains("session that starts at 1970-01-01T00:00:00Z"), "{error}");
    // And in a program.
    let query = || Query::files([&path]).session(Session::parse("1m").unwrap());
    assert_eq!(query().run().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 1);
    let both = query().window(Window::tumbling(1).unwrap()).run().err().unwrap();
    assert!(both.to_string().contains("windows or sessions"), "{both}");
    assert!(Session::gap(0).is_err() && Session::gap(i64::MAX).is_err() && Session::parse("").is_err());
}

#[test]
fn a_million_keys_of_one_session_each_fit_their_memory() {
    // Two records a key, 10 s apart, keys in no order.
    let record = |i: u64| {
        let key = i % 1_000_000 * 611_953 % 1_000_000;
        format!("{},{key}\n", 1_700_000_000 + i % 1_000_000 / 300 + i / 1_000_000 * 10)
    };
    let mut text = String::from("ts,k\n");
    // Both records of a key are 10 s and 3,000 lines apart.
    for block in 0..=1_000_000 / 3000 {
        let from = block * 3000;
        (from..(from + 3000).min(1_000_000)).for_each(|i| text += &record(i));
        if block > 0 {
            (from - 3000..from).for_each(|i| text += &record(i + 1_000_000));
        }
    }
    (999_000..1_000_000).for_each(|i| text += &record(i + 1_000_000));
    let flags = ["--session", "30s", "--key", "k", "--threads", "2", "--memory", "200MiB", "--agg", "count"];
    let ran = windrow_with(&[&["replay", "-", "-o", "null", "--stats"], &flags[..]].concat(), text.as_bytes()).good();
    assert_eq!((ran.stat("read"), ran.stat("rows_out"), ran.stat("keys")), (2_000_000, 1_000_000, 1_000_000));
}
