//! The property: over random expressions and columns, with nulls, the engine agrees with its naive twin.

use super::Expr;
use super::twin::{Bool, Float, Int, Left64Bits, Null, Row, Text, Time, Value, constant_overflows};
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Date32Array, DictionaryArray, Float32Array, Float64Array,
    Int8Array, Int32Array, Int64Array, LargeStringArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampSecondArray, UInt64Array,
};
use proptest::prelude::*;
use std::sync::Arc;

/// The fields of the property: each name tells its type.
const FIELDS: [&str; 17] = ["i", "j", "k", "u", "f", "g", "b", "c", "s", "v", "w", "l", "d", "t", "q", "e", "m"];

fn values_of(field: &'static str) -> BoxedStrategy<Value> {
    fn of<T: std::fmt::Debug + Clone + 'static>(list: Vec<T>, to: fn(T) -> Value) -> BoxedStrategy<Value> {
        prop::sample::select(list).prop_map(to).boxed()
    }
    const BIG: i64 = 1 << 53;
    let texts = || vec!["", "a", "ab", "b", "a\0", "é", "aéb", "abcdefghijkl", "abcdefghijklm", "abcdefghijkln", "A%_"];
    let time = |unit: i128| {
        let ticks = [0, 1, -1, 86_400, 1_709_210_096].map(|s: i128| s * 1_000_000_000 / unit * unit);
        of(ticks.to_vec(), Time)
    };
    let some = match field {
        "i" => of(vec![0, 1, 2, -1, 7, 200, 500, BIG, BIG + 1, i64::MAX, i64::MIN], |v| Int(v.into())),
        "j" => of(vec![0, 1, 2, -1, 500, i32::MAX, i32::MIN], |v| Int(v.into())),
        "k" => of(vec![0, 1, 2, -1, i8::MAX, i8::MIN], |v| Int(v.into())),
        "u" => of(vec![0, 1, 2, 500, 1 << 53, (1 << 53) + 1, 1 << 63, u64::MAX], |v: u64| Int(v.into())),
        "f" => of(
            vec![0.0, -0.0, 1.0, 1.5, -1.0, BIG as f64, 2f64.powi(63), 2f64.powi(64), 1e300, -1e300, 5e-324, 0.1]
                .into_iter()
                .chain([f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY])
                .collect(),
            Float,
        ),
        "g" => of(vec![0.0, -0.0, 1.5, 0.1, -1.0, f32::NAN, f32::INFINITY, f32::MAX], |v| Float(v.into())),
        "b" | "c" => of(vec![true, false], Bool),
        "v" => of(
            vec![&b""[..], b"a", b"\xff", b"a\xc3", b"\xc3\xa9b", b"abcdefghijklm", b"\xffbcdefghijklmn", b"\xe2\x82"],
            |v| Text(v.to_vec()),
        ),
        "t" | "m" => prop_oneof![time(1_000), of(vec![1_500_000_000, -1_000], Time)].boxed(),
        "q" => time(1_000_000_000),
        "e" => of(vec![0, 1, -1, 19_782], |v: i128| Time(v * 86_400_000_000_000)),
        _ => of(texts(), |v| Text(v.as_bytes().to_vec())),
    };
    prop_oneof![1 => Just(Null), 4 => some].boxed()
}

fn column(field: &str, values: &[Value]) -> ArrayRef {
    fn ints<T: TryFrom<i128>>(values: &[Value], unit: i128) -> Vec<Option<T>> {
        let native = |v: &Value| match v {
            Int(i) | Time(i) => T::try_from(i / unit).ok(),
            _ => None,
        };
        values.iter().map(native).collect()
    }
    let floats = || values.iter().map(|v| if let Float(x) = v { Some(*x) } else { None });
    let bytes = || values.iter().map(|v| if let Text(t) = v { Some(t.as_slice()) } else { None });
    let texts = || bytes().map(|t| t.map(|t| std::str::from_utf8(t).unwrap()));
    match field {
        "i" => Arc::new(Int64Array::from(ints(values, 1))),
        "j" => Arc::new(Int32Array::from(ints(values, 1))),
        "k" => Arc::new(Int8Array::from(ints(values, 1))),
        "u" => Arc::new(UInt64Array::from(ints(values, 1))),
        "f" => Arc::new(Float64Array::from_iter(floats())),
        "g" => Arc::new(Float32Array::from_iter(floats().map(|x| x.map(|x| x as f32)))),
        "b" | "c" => {
            let bools = values.iter().map(|v| if let Bool(b) = v { Some(*b) } else { None });
            Arc::new(bools.collect::<BooleanArray>())
        }
        "s" => Arc::new(StringArray::from_iter(texts())),
        "v" => Arc::new(BinaryViewArray::from_iter(bytes())),
        "w" => Arc::new(StringViewArray::from_iter(texts())),
        "l" => Arc::new(LargeStringArray::from_iter(texts())),
        "d" => Arc::new(texts().collect::<DictionaryArray<Int32Type>>()),
        "t" => Arc::new(TimestampMicrosecondArray::from(ints(values, 1_000)).with_timezone("UTC")),
        "m" => Arc::new(TimestampMicrosecondArray::from(ints(values, 1_000))),
        "q" => Arc::new(TimestampSecondArray::from(ints(values, 1_000_000_000))),
        _ => Arc::new(Date32Array::from(ints(values, 86_400_000_000_000))),
    }
}

fn one_of(list: &[&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(list.to_vec()).prop_map(str::to_owned).boxed()
}

fn number_field() -> BoxedStrategy<String> {
    one_of(&["i", "j", "k", "u", "f", "g"])
}

fn number() -> BoxedStrategy<String> {
    let literal = one_of(&["0", "1", "2", "-1", "500", "9223372036854775807", "1.5", "-0.0", "1e300", "0.1", "1."]);
    prop_oneof![3 => number_field(), 2 => literal]
        .prop_recursive(2, 4, 2, |inner| {
            prop_oneof![
                (inner.clone(), one_of(&["+", "-", "*", "/", "%"]), inner.clone())
                    .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
                inner.prop_map(|a| format!("(- {a})")),
            ]
        })
        .boxed()
}

fn number_or_bound() -> BoxedStrategy<String> {
    let bounds = [
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "9007199254740993",
        "1e19",
        "-1e19",
        "127",
        "128",
        "-128",
        "-129",
        "0.5",
        "-0.5",
    ];
    prop_oneof![2 => number(), 1 => one_of(&bounds)].boxed()
}

fn condition() -> BoxedStrategy<String> {
    let op = || one_of(&["=", "<>", "<", "<=", ">", ">=", "==", "!="]);
    let not = || one_of(&["", "not "]);
    let text = || one_of(&["s", "v", "w", "l", "d"]);
    let text_literal = || {
        one_of(&["''", "'a'", "'b'", "'ab'", "'é'", "'abcdefghijkl'", "'abcdefghijklm'", "'abcdefghijklmn'", "'A%_'"])
    };
    let pattern = one_of(&[
        "'%'",
        "'a'",
        "'a%'",
        "'%a'",
        "'%b%'",
        "'_'",
        "'__'",
        "'a_b'",
        "'%é%'",
        "'%_b'",
        "'a%l_'",
        "''",
        "'_%_'",
        "'%%'",
        "'a%b%'",
        "'abcdefghijklm'",
    ]);
    let time = || one_of(&["t", "q", "e", "m"]);
    let time_literal = || {
        one_of(&[
            "'1970-01-01'",
            "'1970-01-01T00:00:01.5'",
            "'1969-12-31T23:59:59.9999995Z'",
            "'2024-02-29 12:34:56+00:00'",
        ])
    };
    let null_or = |s: BoxedStrategy<String>| prop_oneof![5 => s, 1 => Just("null".to_owned())];
    let list = |s: BoxedStrategy<String>| prop::collection::vec(null_or(s), 1..8).prop_map(|l| l.join(", "));
    let long = prop::collection::vec(-2i64..40, 17..30);
    let equalities = |field: BoxedStrategy<String>, literal: BoxedStrategy<String>| {
        (field, prop::collection::vec(literal, 2..7)).prop_map(|(f, l)| {
            let terms: Vec<String> = l.iter().map(|l| format!("{f} = {l}")).collect();
            format!("(b or {})", terms.join(" or "))
        })
    };
    let leaf = prop_oneof![
        4 => (number_or_bound(), op(), number_or_bound()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (number(), not(), list(number_or_bound())).prop_map(|(a, n, l)| format!("{a} {n}in ({l})")),
        1 => (number(), long).prop_map(|(a, l)| {
            format!("{a} in ({})", l.iter().map(|i| i.to_string()).collect::<Vec<_>>().join(", "))
        }),
        1 => (number(), not(), number_or_bound(), null_or(number_or_bound()))
            .prop_map(|(a, n, b, c)| format!("{a} {n}between {b} and {c}")),
        2 => (text(), op(), text_literal()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (text_literal(), op(), text()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        2 => (text(), op(), text()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (text(), not(), list(text_literal())).prop_map(|(a, n, l)| format!("{a} {n}in ({l})")),
        2 => (text(), not(), pattern).prop_map(|(a, n, p)| format!("{a} {n}like {p}")),
        1 => (text(), one_of(&["'a'", "'^a'", "'b$'", "'.'", "''", "'^.é?$'", "'[a-c]{3}'"]))
            .prop_map(|(a, p)| format!("regexp_like({a}, {p})")),
        1 => (text(), not(), text_literal(), text()).prop_map(|(a, n, b, c)| format!("{a} {n}between {b} and {c}")),
        2 => (number_field(), op(), one_of(&["1.5", "-0.5", "0.5", "-1.5", "500.0", "9007199254740993", "1e19"]))
            .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => equalities(number_field(), number_or_bound()),
        1 => equalities(text(), text_literal()),
        1 => equalities(time(), time_literal()),
        2 => (time(), op(), time_literal()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (time_literal(), op(), time()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (time(), op(), time()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (time(), not(), list(time_literal())).prop_map(|(a, n, l)| format!("{a} {n}in ({l})")),
        2 => one_of(&["b", "c", "b", "true", "false", "null"]),
        1 => (prop_oneof![one_of(&FIELDS), number()], one_of(&["null", "not null"])).prop_map(|(a, n)| format!("{a} is {n}")),
        1 => (prop_oneof![number_field(), text(), time()], op()).prop_map(|(a, op)| format!("{a} {op} null")),
    ];
    leaf.prop_recursive(4, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|l| format!("({})", l.join(" and "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|l| format!("({})", l.join(" or "))),
            inner.clone().prop_map(|a| format!("not ({a})")),
            (inner.clone(), one_of(&["true", "false", "not true", "not false", "null", "not null"]))
                .prop_map(|(a, n)| format!("(({a}) is {n})")),
            (inner.clone(), op(), inner).prop_map(|(a, op, b)| format!("(({a}) {op} ({b}))")),
        ]
    })
    .boxed()
}

fn rows() -> BoxedStrategy<Vec<Vec<Value>>> {
    let row: Vec<BoxedStrategy<Value>> = FIELDS.iter().map(|f| values_of(f)).collect();
    prop::collection::vec(row, 1..150).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn engine_agrees_with_the_twin(text in condition(), rows in rows(), skipped in 0usize..5) {
        let skipped = skipped.min(rows.len() - 1);
        let columns: Vec<(&str, ArrayRef)> = FIELDS
            .iter()
            .enumerate()
            .map(|(i, f)| {
                let values: Vec<Value> = rows.iter().map(|r| r[i].clone()).collect();
                (*f, column(f, &values).slice(skipped, rows.len() - skipped))
            })
            .collect();
        let rows = &rows[skipped..];
        let expr = Expr::parse(&text).unwrap();
        let place: Vec<usize> =
            expr.parsed.names.iter().map(|n| FIELDS.iter().position(|f| *f == n.name).unwrap()).collect();
        let floats: Vec<bool> = place.iter().map(|p| matches!(FIELDS[*p], "f" | "g")).collect();

        let mut wanted = Vec::new();
        let mut overflows = constant_overflows(&expr.parsed.root);
        for row in rows {
            let values: Vec<Value> = place.iter().map(|p| row[*p].clone()).collect();
            match (Row { values: &values, floats: &floats }).value(&expr.parsed.root) {
                Ok(Bool(b)) => wanted.push(Some(b)),
                Ok(Null) => wanted.push(None),
                Ok(other) => panic!("{other:?}"),
                Err(Left64Bits) => overflows = true,
            }
        }

        let lookup = |name: &str| columns.iter().find(|(n, _)| *n == name).map(|(_, c)| c.data_type().clone());
        let used: Vec<ArrayRef> = place.iter().map(|p| columns[*p].1.clone()).collect();
        let got = expr.bind(&lookup, &[]).and_then(|p| p.evaluate(&used, rows.len()));
        match got {
            Ok(got) => {
                prop_assert!(!overflows, "{text} should have left 64 bits");
                prop_assert_eq!(got.iter().collect::<Vec<_>>(), wanted, "{}", text);
            }
            Err(e) => {
                prop_assert!(overflows, "{text}: {e}");
                prop_assert!(e.to_string().contains("leaves the range of 64-bit integers"), "{}: {}", text, e);
            }
        }
    }

    #[test]
    fn no_text_panics(text in "([a-z0-9.'\"()<>=!%_+*/ -]|and|or|not|in|like|between|is|null|é|\n){0,40}") {
        let types = |_: &str| Some(arrow_schema::DataType::Int64);
        if let Ok(expr) = Expr::parse(&text) {
            let columns: Vec<ArrayRef> =
                expr.fields().iter().map(|_| Arc::new(Int64Array::from(vec![1, i64::MAX])) as ArrayRef).collect();
            if let Ok(predicate) = expr.bind(&types, &[]) {
                let _ = predicate.evaluate(&columns, 2);
            }
            // What is shown of a tree is that tree.
            let shown = super::tree::Shown { node: &expr.parsed.root, names: &expr.parsed.names }.to_string();
            prop_assert_eq!(&Expr::parse(&shown).unwrap().parsed.root, &expr.parsed.root, "{}", shown);
        }
    }
}
