//! What expressions mean and what they say when they do not: tables of both.

use super::{Expr, Hint, Predicate};
use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Date64Array, DictionaryArray, Float32Array, Float64Array,
    Int8Array, Int64Array, LargeStringArray, NullArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow_schema::DataType;
use std::sync::Arc;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;
/// 2^53, the first integer whose successor is no float.
const BIG: i64 = 9_007_199_254_740_992;

#[rustfmt::skip]
fn columns() -> Vec<(&'static str, ArrayRef)> {
    let time = |v: i64| v * 1_000_000;
    let small = Int8Array::from(vec![Some(0), None, Some(1), Some(0)]);
    vec![
        ("i", Arc::new(Int64Array::from(vec![Some(1), Some(2), None, Some(-3)]))),
        ("big", Arc::new(Int64Array::from(vec![BIG, BIG + 1, i64::MAX, i64::MIN]))),
        ("tiny", Arc::new(Int8Array::from(vec![Some(-128), Some(127), None, Some(0)]))),
        ("u", Arc::new(UInt64Array::from(vec![Some(0), Some(u64::MAX), None, Some(5)]))),
        ("f", Arc::new(Float64Array::from(vec![Some(1.5), Some(NAN), Some(-0.0), None]))),
        ("g", Arc::new(Float64Array::from(vec![INF, NAN, 0.0, BIG as f64]))),
        ("h", Arc::new(Float32Array::from(vec![0.1, 0.5, f32::NAN, f32::NEG_INFINITY]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]))),
        ("c", Arc::new(BooleanArray::from(vec![true, true, true, false]))),
        ("s", Arc::new(StringArray::from(vec![Some("a"), Some("it's"), None, Some("")]))),
        ("l", Arc::new(LargeStringArray::from(vec![Some("a"), Some("b"), Some("c"), None]))),
        ("w", Arc::new(StringViewArray::from(vec![Some("a"), Some("longer than twelve"), None, Some("a\0")]))),
        ("v", Arc::new(BinaryViewArray::from(vec![Some(&b"a"[..]), Some(b"\xff\xfe"), None, Some(b"longer than twelvf")]))),
        ("d", Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("a"), None, Some("b"), Some("a")]))),
        ("di", Arc::new(DictionaryArray::<Int8Type>::new(small, Arc::new(Int64Array::from(vec![7, 8]))))),
        ("n", Arc::new(NullArray::new(4))),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![Some(time(0)), Some(time(60) + 1), None, Some(-1)]).with_timezone("UTC"))),
        ("ts", Arc::new(TimestampSecondArray::from(vec![0, 60, 61, -1]))),
        ("tn", Arc::new(TimestampNanosecondArray::from(vec![0, 1, 60_000_001_000, -1]))),
        ("day", Arc::new(Date32Array::from(vec![Some(0), Some(1), None, Some(-1)]))),
        ("ms", Arc::new(Date64Array::from(vec![0, 60_000, 86_400_000, -1]))),
        ("a.b", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ("@timestamp", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ("in", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ("user", Arc::new(StringArray::from(vec!["x", "y", "x", "y"]))),
        ("interval", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ("größe", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
    ]
}

fn bind(expr: &Expr, columns: &[(&str, ArrayRef)]) -> crate::Result<Predicate> {
    let known: Vec<String> = columns.iter().map(|(n, _)| n.to_string()).collect();
    let lookup = |name: &str| columns.iter().find(|(n, _)| *n == name).map(|(_, c)| c.data_type().clone());
    expr.bind(&lookup, &known)
}

/// The answer as `t`, `f` and `-` (null) for each row, or the sentence of the error.
fn answer(text: &str, columns: &[(&str, ArrayRef)]) -> Result<String, String> {
    let run = || {
        let expr = Expr::parse(text)?;
        let predicate = bind(&expr, columns)?;
        let of = |name: &String| columns.iter().find(|(n, _)| n == name).map(|(_, c)| c.clone());
        let used: Vec<ArrayRef> = expr.fields().iter().filter_map(of).collect();
        predicate.evaluate(&used, 4)
    };
    let letter = |value: Option<bool>| value.map_or('-', |b| if b { 't' } else { 'f' });
    run().map(|a: BooleanArray| a.iter().map(letter).collect()).map_err(|e| e.to_string())
}

/// Expressions over [`columns`] and their answers.
#[rustfmt::skip]
const MEANING: &[(&str, &str)] = &[
    // Comparisons, both ways round.
    ("i = 1", "tf-f"), ("i == 1", "tf-f"), ("i <> 1", "ft-t"), ("i != 1", "ft-t"), ("i < 2", "tf-t"),
    ("i <= 2", "tt-t"), ("i > -3", "tt-f"), ("i >= 2", "ft-f"), ("2 > i", "tf-t"), ("1 = i", "tf-f"),
    ("2 <= i", "ft-f"), ("i<-2", "ff-t"), ("i=+1", "tf-f"), ("i = - -1", "tf-f"), ("-i = 3", "ff-t"),
    ("1 < 2", "tttt"), ("1 = 1.0", "tttt"), ("'a' < 'b'", "tttt"), ("1 > 2", "ffff"),
    ("I-- comment\n", "in the expression \"I-- comment \", line 1, column 1: there is no field I; names are case-sensitive, there is i"),
    // Exact numbers.
    ("i < 1.5", "tf-t"), ("i = 1.5", "ff-f"), ("i <> 1.5", "tt-t"), ("i > 1e300", "ff-f"), ("i >= -1e300", "tt-t"),
    ("big = 9007199254740993", "ftff"), ("big > 9007199254740992.0", "fttf"), ("big = g", "ffff"),
    ("big <= 9223372036854775807", "tttt"), ("big < 9223372036854775808", "tttt"), ("big < 1e19", "tttt"),
    ("big >= 9.223372036854775808e18", "ffff"), ("big = -9223372036854775808", "ffft"),
    ("big > g", "fftf"), ("g > big", "ttft"), ("g >= 9007199254740993", "ttff"), ("g < 9007199254740993", "fftt"),
    ("g = 9007199254740993", "ffff"), ("g > 9007199254740991", "ttft"),
    ("tiny < 128", "tt-t"), ("tiny > -129", "tt-t"), ("tiny = 1000", "ff-f"), ("tiny <> 1000", "tt-t"),
    ("tiny <= -128", "tf-f"), ("tiny < -128", "ff-f"), ("u > -1", "tt-t"), ("u = -1", "ff-f"), ("u >= 0", "tt-t"),
    ("u = 18446744073709551615", "ft-f"), ("u > 18446744073709551614", "ft-f"), ("u > big", "ft-t"),
    ("u > i", "ft-t"), ("i < u", "ft-t"), ("u >= f", "ff--"), ("f <= u", "ff--"), ("tiny < i", "tf-f"),
    ("h = 0.1", "ffff"), ("h > 0.1", "tttf"), ("h = 0.5", "ftff"),
    // Floats.
    ("f > 1e308", "ftf-"), ("f >= 1.5", "ttf-"), ("f < 1.5", "fft-"), ("f = 0", "fft-"), ("f <= 0.0", "fft-"),
    ("f = f", "ttt-"), ("f = g", "ftt-"), ("f < g", "tff-"), ("f <= g", "ttt-"), ("f <> g", "tff-"),
    ("g > f", "tff-"), ("i < f", "tt--"), ("f > i", "tt--"), ("f = 1e308 * 10 - 1e308 * 10", "ftf-"),
    ("i < 1e308 * 10 - 1e308 * 10", "tt-t"), ("f < 1e308 * 10 - 1e308 * 10", "tft-"),
    // Three values.
    ("b", "tf-t"), ("not b", "ft-f"), ("b and c", "tf-f"), ("b or c", "tttt"), ("b and null", "-f--"),
    ("b or null", "t--t"), ("null", "----"), ("not null", "----"), ("true", "tttt"), ("not true", "ffff"),
    ("i = null", "----"), ("null <> null", "----"), ("b is true", "tfft"), ("b is not true", "fttf"),
    ("b is false", "ftff"), ("b is not false", "tftt"), ("b is null", "fftf"), ("b is not null", "ttft"),
    ("i is null", "fftf"), ("i is not null", "ttft"), ("d is null", "ftff"), ("n is null", "tttt"),
    ("n = 1", "----"), ("n", "----"), ("null is null", "tttt"), ("1 is null", "ffff"), ("i + 1 is null", "fftf"),
    ("(i = 1) is null", "fftf"), ("i = 1 is null", "fftf"), ("(null) is not true", "tttt"), ("di is null", "ftff"),
    ("b = c", "tf-f"), ("b = true", "tf-t"), ("b <> c", "ft-t"), ("b < c", "ft-f"), ("b >= c", "tf-t"),
    ("b > c", "ff-t"), ("b <= c", "tt-f"), ("(i = 1) = (s = 'a')", "tt-t"),
    // Precedence.
    ("c or b and false", "tttf"), ("(c or b) and false", "ffff"), ("not i = 1", "ft-t"), ("not b or c", "tttf"),
    ("not b and c", "ft-f"), ("NOT not i = 1 AND TRUE", "tf-f"), ("i + 1 * 2 = 3", "tf-f"), ("(i + 1) * 2 = 4", "tf-f"),
    ("7 - 3 - 2 = 2", "tttt"), ("i = 1 or i = 2 and b", "tf-f"), ("i between 1 and 2 and c", "tt-f"),
    // Text, bytewise.
    ("s = 'a'", "tf-f"), ("s = 'it''s'", "ft-f"), ("s > ''", "tt-f"), ("s <> ''", "tt-f"), ("'a' <= s", "tt-f"),
    ("l >= 'b'", "ftt-"), ("w = 'a'", "tf-f"), ("w > 'a'", "ft-t"), ("w = 'longer than twelve'", "ft-f"),
    ("w <> 'longer than twelve'", "tf-t"), ("w < 'longer than twelvf'", "tt-t"), ("v = 'a'", "tf-f"),
    ("v > 'zzzz'", "ft-f"), ("v >= 'longer than twelve'", "ft-t"), ("v <= 'longer than twelve'", "tf-f"),
    ("d = 'a'", "t-ft"), ("d <> 'a'", "f-tf"), ("d < 'b'", "t-ft"), ("d = l", "t-f-"), ("s = w", "tf-f"),
    ("v < w", "ff-f"), ("v = s", "tf-f"), ("s = user", "ff-f"), ("v <> d", "f--t"), ("di = 7", "t-ft"),
    ("di + 1 > 8", "f-tf"), ("di = i", "f--f"),
    // Lists, ranges, patterns.
    ("i in (1, 5)", "tf-f"), ("i not in (1, 5)", "ft-t"), ("i in (1, null)", "t---"), ("i not in (1, null)", "f---"),
    ("i in (1.0, 2.5)", "tf-f"), ("i in (1.5)", "ff-f"), ("u in (-1, 18446744073709551615)", "ft-f"),
    ("f in (0, 1.5)", "tft-"), ("s in ('a', '')", "tf-t"), ("w in ('a', 'b', 'c', 'd', 'e', 'f')", "tf-f"),
    ("i in (1, a.b)", "tt-f"), ("d in ('b', 'c')", "f-tf"), ("1 in (1, 2)", "tttt"), ("'x' in ('y')", "ffff"),
    ("i in (1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,-3)", "tt-t"), ("null in (1)", "----"),
    ("i between 1 and 2", "tt-f"), ("i not between 1 and 2", "ff-t"), ("i between 2 and 1", "ff-f"),
    ("i between null and 1", "-f--"), ("s between 'a' and 'b'", "tf-f"), ("f between 0 and 2", "tft-"),
    ("s like 'a'", "tf-f"), ("s like '%'", "tt-t"), ("s like 'it%'", "ft-f"), ("s like '%''s'", "ft-f"),
    ("s like '_'", "tf-f"), ("s not like '_%'", "ff-t"), ("w like '%than%'", "ft-f"), ("w like 'l%n%t%e'", "ft-f"),
    ("v like '__'", "ft-f"), ("v like '_o%f'", "ff-t"), ("d like '_'", "t-tt"), ("w like 'a'", "tf-f"),
    ("regexp_like(s, '^(a|it).?')", "tt-f"), ("not REGEXP_LIKE(w, 'than|^$')", "tf-t"), ("regexp_like(d, 'A')", "f-ff"),
    ("regexp_like(v, '^.o.*f$')", "ff-t"), ("regexp_like(s, '(?i)A')", "tf-f"), ("regexp_like('größe', '^gr.ße$')", "tttt"),
    ("regexp_like(null, 'a')", "----"), ("b and regexp_like(s, '')", "tf-t"),
    ("'größe' like 'gr_ße'", "tttt"), ("'größe' like 'gr__ße'", "ffff"), ("s like null", "----"),
    ("'abcabd' like '%ab_'", "tttt"), ("'' like ''", "tttt"), ("'' like '_'", "ffff"), ("'%' like '%%'", "tttt"),
    // Arithmetic.
    ("i + 1 = 2", "tf-f"), ("i * 2 - 1 > 2", "ft-f"), ("i / 2 = 0.5", "tf-f"), ("i % 2 = 1", "tf-f"),
    ("i % 2 = -1", "ff-t"), ("i / 0 > 1", "----"), ("i % 0 = 0", "----"), ("f / f = 1", "tf--"), ("f % 0 = 1", "----"),
    ("10 / (i - 1) = 10", "-t-f"), ("5 / 2 = 2.5", "tttt"), ("5 / 0 = 1", "----"), ("big % -1 = 0", "tttt"),
    ("u + 1 = 1", "u + 1 leaves the range of 64-bit integers; make one of its numbers a float, such as 1.0"),
    ("u + 1.0 > 1e18", "ft-f"), ("tiny + 1 = 128", "ft-f"), ("-tiny = 128", "tf-f"), ("h + 0 = 0.5", "ftff"),
    ("big + 1 > 0", "big + 1 leaves the range of 64-bit integers; make one of its numbers a float, such as 1.0"),
    ("-big > 0", "-big leaves the range of 64-bit integers; make one of its numbers a float, such as 1.0"),
    // Times.
    ("t >= '1970-01-01T00:01:00Z'", "ft-f"), ("t < '1970-01-01'", "ff-t"), ("'1970-01-01 00:00' = t", "tf-f"),
    ("t > '1970-01-01T00:01:00.0000009999'", "ft-f"), ("t = '1970-01-01T00:01:00.0000019'", "ft-f"),
    ("ts = '1970-01-01T00:01:00.5'", "ffff"), ("ts <= '1970-01-01T00:01:00.5'", "ttft"),
    ("ts < '1970-01-01T00:01:00.5'", "ttft"), ("ts >= '1970-01-01T00:01:00.5'", "fftf"), ("ts < '1970-01-01T00:01:00'", "tfft"),
    ("tn = '1970-01-01T00:00:00.000000001'", "ftff"), ("tn > '1970-01-01'", "fttf"), ("day = '1970-01-02'", "ft-f"),
    ("day < '1970-01-01T12:00:00'", "tf-t"), ("day > '1969-12-31T12:00:00'", "tt-f"), ("ms = '1970-01-02'", "fftf"),
    ("t = ts", "tf-f"), ("t > ts", "ft-t"), ("tn < ts", "fttf"), ("day = t", "tf-f"), ("t <> tn", "ft-t"),
    ("t in ('1970-01-01', '1970-01-01T00:01:00.000001')", "tt-f"), ("day in ('1970-01-01T12:00:00')", "ff-f"),
    ("t between '1970-01-01' and '1970-01-02'", "tt-f"), ("t is null", "fftf"), ("ts > null", "----"),
    // Names.
    ("a.b = 1", "tfff"), ("\"a.b\" = 1", "tfff"), ("\"@timestamp\" = 2", "ftff"), ("@timestamp = 2", "ftff"),
    ("\"in\" in (3)", "fftf"), ("user = 'x'", "tftf"), ("interval > 2", "fftt"), ("größe = 4", "ffft"), ("`in` = 1", "tfff"),
    ("i /* one */ = -- two\n 1", "tf-f"),
];

#[test]
fn expressions_mean_what_sql_means() {
    let columns = columns();
    let mut wrong = Vec::new();
    for (text, wanted) in MEANING {
        let got = answer(text, &columns).unwrap_or_else(|e| e);
        if got != *wanted {
            wrong.push(format!("{text}: {got}, not {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `in the expression "...", line 1, column `
fn at(text: &str, column: usize, what: &str) -> String {
    format!("in the expression \"{text}\", line 1, column {column}: {what}")
}

const MADE_OF: &str = "an expression is made of = <> < <= > >=, and, or, not, in, between, like, is null, is true, \
    regexp_like(field, 'pattern'), + - * / %, parentheses, fields, numbers, 'text', true, false and null";

#[test]
#[rustfmt::skip]
fn malformed_text_is_told_where_and_what() {
    for (text, column, what) in [
        ("i >", 4, "the expression ends where a field or a value should stand".to_owned()),
        ("(i = 1", 7, "the expression ends where an operator or a closing parenthesis should stand".into()),
        ("i = 1)", 6, "this parenthesis closes nothing".into()),
        ("i = = 1", 5, format!("= stands where a field or a value should; {MADE_OF}")),
        ("i = 1 i", 7, format!("i stands where an operator or the end should; {MADE_OF}")),
        ("i 1", 3, "1 stands where an operator after i should".into()),
        ("i = 'x", 5, "unterminated string literal".into()),
        ("i = 1 = 1", 7, "comparisons do not chain; join two of them with and".into()),
        ("1 < i < 3", 7, "comparisons do not chain; join two of them with and".into()),
        ("b && c", 3, "&& stands where an operator or the end should; && is written and".into()),
        ("b || c", 3, "|| stands where an operator or the end should; || is written or".into()),
        ("!b", 1, "! stands where a field or a value should; ! is written not".into()),
        ("lower(s) = 'a'", 1, format!("lower(...) is not a function of expressions; {MADE_OF}")),
        ("b and regexp_like(s, '(')", 22, "\"(\" is no regular expression: unclosed group".into()),
        ("regexp_like(s)", 14, format!(") stands where a comma and a pattern in quotes should; {MADE_OF}")),
        ("regexp_like(s, w)", 16, format!("w stands where a pattern in quotes should; {MADE_OF}")),
        ("regexp_like(s, 'a'", 19, "the expression ends where a closing parenthesis should stand".into()),
        ("i in 1", 6, "1 stands where the parenthesis that opens the list of in should".into()),
        ("i in ()", 7, format!(") stands where a field or a value should; {MADE_OF}")),
        ("i in (1 2)", 9, "2 stands where a comma or a closing parenthesis should".into()),
        ("i between 1 or 2", 13, "or stands where the and of between should".into()),
        ("i is 5", 6, "5 stands where null, true or false should".into()),
        ("s like 'a' escape 'b'", 12, "like has no escape here; % is any text and _ is any one character".into()),
        ("case when b then 1 end", 6, format!("when stands where an operator after case should; {MADE_OF}")),
        ("a. = 1", 4, format!("= stands where the rest of a field's name should; {MADE_OF}")),
        ("i::text = 'a'", 2, format!(":: stands where an operator or the end should; {MADE_OF}")),
        ("i = 1e999", 5, "1e999 is not a number that can be held".into()),
        ("s ilike 'a'", 3, format!("ilike stands where an operator after s should; {MADE_OF}")),
        ("select 1", 8, "1 stands where an operator after select should".into()),
        ("in = 1", 1, "in stands where a field or a value should".into()),
    ] {
        let error = Expr::parse(text).map(|e| e.to_string()).expect_err(text);
        assert_eq!(error.kind(), crate::ErrorKind::Usage);
        assert_eq!(error.to_string(), at(text, column, &what));
    }
    for text in ["", "  ", "-- nothing"] {
        let error = Expr::parse(text).map(|e| e.to_string()).expect_err(text);
        assert_eq!(error.to_string(), format!("an expression is empty; {MADE_OF}"));
    }
    let error = Expr::parse("i = 1\n  and )").map(|e| e.to_string()).expect_err("two lines");
    assert!(error.to_string().contains("\"i = 1   and )\", line 2, column 7: "), "{error}");
}

#[test]
#[rustfmt::skip]
fn types_that_do_not_meet_are_told_apart() {
    let columns = columns();
    for (text, what) in [
        ("i >= 'x'", "i is an integer; 'x' is text"),
        ("'x' <= i", "i is an integer; 'x' is text"),
        ("i = '500'", "i is an integer; '500' is text: write 500 without quotes"),
        ("f = ' 1.5'", "f is a number; ' 1.5' is text: write 1.5 without quotes"),
        ("s = 5", "s is text; 5 is an integer: write it in quotes, '5'"),
        ("5.5 > v", "v is text; 5.5 is a number: write it in quotes, '5.5'"),
        ("b = 1", "b is a boolean; 1 is an integer"),
        ("b = 'true'", "b is a boolean; 'true' is text"),
        ("s = i", "s is text; i is an integer"),
        ("i in (1, 'x')", "i is an integer; 'x' is text"),
        ("i between 1 and 'x'", "i is an integer; 'x' is text"),
        ("t > 5", "t is a time; 5 is an integer: write the time as text, such as '2024-01-31T12:00:00Z'"),
        ("t > 'noon'", "t is a time; 'noon' is none: write 2024-01-31, 2024-01-31T12:00:00 or 2024-01-31T12:00:00.5+01:00"),
        ("t > s", "t is a time; s is text"),
        ("t + 1 > 5", "t is a time; arithmetic is for numbers"),
        ("s + 1 > 5", "s is text; arithmetic is for numbers"),
        ("-s > 5", "s is text; arithmetic is for numbers"),
        ("'a' + 1 > 5", "'a' is text; arithmetic is for numbers"),
        ("s", "s is text, not a condition; compare it with something"),
        ("i and b", "i is an integer, not a condition; compare it with something"),
        ("not (i + 1)", "i + 1 is an integer, not a condition; compare it with something"),
        ("f is true", "f is a number, not a condition; compare it with something"),
        ("1", "1 is an integer, not a condition; compare it with something"),
        ("i like 'a'", "i is an integer; like is for text: compare with = < <= > >= or between"),
        ("regexp_like(i + 1, 'a')", "i + 1 is an integer; regexp_like is for text"),
        ("s like w", "like takes a pattern in quotes; w is none"),
        ("b in (true)", "b is a boolean, which in does not take; use ="),
        ("b between false and true", "b is a boolean, which between does not take; use ="),
        ("9223372036854775807 + 1 = i", "9223372036854775807 + 1 leaves the range of 64-bit integers"),
        ("i + 9223372036854775808 = 1", "9223372036854775808 leaves the range of 64-bit integers; write 9223372036854775808.0 to compute in floats"),
        ("users = 'x'", "there is no field users; near it are user"),
        ("User = 'x'", "there is no field User; names are case-sensitive, there is user"),
        ("user = \"x\"", "there is no field x; text stands in single quotes"),
        ("nothing_like_it = 1", "there is no field nothing_like_it"),
        ("response-time > 1", "there is no field response"),
    ] {
        let error = answer(text, &columns).expect_err(text);
        let sentence = error.strip_prefix(&format!("in the expression \"{text}\", line 1, column ")).expect(&error);
        assert_eq!(sentence.split_once(": ").map(|(_, what)| what), Some(what), "{text}");
    }
    let few = &columns[..2];
    assert_eq!(
        answer("nothing = 1", few),
        Err("in the expression \"nothing = 1\", line 1, column 1: there is no field nothing; there are i, big".into())
    );
    let decimal = |_: &str| Some(DataType::Decimal128(10, 2));
    let error = Expr::parse("price > 1").and_then(|e| e.bind(&decimal, &[])).expect_err("decimal");
    assert_eq!(
        error.to_string(),
        "in the expression \"price > 1\", line 1, column 1: price has the type Decimal128(10, 2), which expressions do not take; \
         they take integers, floats, booleans, text and times"
    );
    let long = format!("{} = 1", "x".repeat(200));
    let error = answer(&long, few).expect_err("long");
    assert!(error.starts_with(&format!("in the expression \"{}...\", line 1, column 1: there is no field x", "x".repeat(100))), "{error}");
}

#[test]
fn what_does_not_type_is_told_where() {
    let columns = columns();
    for (text, line, column) in [
        ("i = 1 and s + 1 > 5", 1, 11),
        ("i = 1 and 5 < 1 + (s)", 1, 20),
        ("i = 1\n  or i in (1, 2) and not -s > 5", 2, 27),
        ("b and (c or (i = 1 and f = 'x'))", 1, 24),
        ("b and 'x' = i", 1, 13),
        ("i is null or i between 1 and 's'", 1, 14),
        ("b or b or nothing = 1", 1, 11),
        ("regexp_like(s, 'a') or b and i", 1, 30),
    ] {
        let error = answer(text, &columns).expect_err(text);
        assert!(error.contains(&format!(", line {line}, column {column}: ")), "{text}: {error}");
    }
}

#[test]
#[rustfmt::skip]
fn hints_follow_from_what_a_field_meets() {
    use Hint::{Boolean, Number, Text, Unknown};
    for (text, wanted) in [
        ("a = 1", vec![Number]),
        ("1.5 < a", vec![Number]),
        ("a = 'x' or b like 'y%'", vec![Text, Text]),
        ("a and not b or c is true", vec![Boolean, Boolean, Boolean]),
        ("a is null", vec![Unknown]),
        ("a = 1 or a = 'x'", vec![Unknown]),
        ("a + b > c", vec![Number, Number, Number]),
        ("a = b and b = c and c = 5", vec![Number, Number, Number]),
        ("a = b", vec![Unknown, Unknown]),
        ("a in (null, 'x') and b in (1)", vec![Text, Number]),
        ("a between b and 'x'", vec![Text, Text]),
        ("a = true and b = (c = 1)", vec![Boolean, Boolean, Number]),
        ("a = null", vec![Unknown]),
        ("-a > 0 and a is not null", vec![Number]),
    ] {
        let hints: Vec<Hint> = Expr::parse(text).unwrap().type_hints().into_iter().map(|(_, h)| h).collect();
        assert_eq!(hints, wanted, "{text}");
    }
}

/// Runs `f` with the small stack of a thread that was asked to be small.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(1 << 20).spawn(f).unwrap().join().unwrap();
}

#[test]
fn depth_is_an_error_and_length_is_not() {
    on_a_small_stack(|| {
        let columns = columns();
        let deep = 20_000;
        for text in [
            format!("{}b{}", "(".repeat(deep), ")".repeat(deep)),
            "(".repeat(deep),
            format!("{}b", "not ".repeat(deep)),
            format!("{}i = 1", "- ".repeat(deep)),
            format!("{}i = 1", "+ ".repeat(deep)),
            format!("i{} = 1", " + i".repeat(deep)),
            format!("i{} = 1", " + (i".repeat(deep)),
            format!("b{}", " is true".repeat(deep)),
            format!("b{}", " and (b or (b".repeat(deep)),
            format!("{}1", "i in (".repeat(deep)),
            format!("{}1", "i between (".repeat(deep)),
        ] {
            let error = answer(&text, &columns).expect_err("deep");
            assert!(error.contains("it is nested more than 128 deep; chains of and"), "{error}");
        }
        let chain = vec!["i = 1"; deep];
        assert_eq!(answer(&chain.join(" or "), &columns), Ok("tf-f".into()));
        assert_eq!(answer(&chain.join(" and "), &columns), Ok("tf-f".into()));
        assert!(answer(&(chain.join(" or ") + " or )"), &columns).is_err());
        let pairs = vec!["b and i = 1"; deep];
        assert_eq!(answer(&pairs.join(" or "), &columns), Ok("tf-f".into()));
        let list: Vec<String> = (1..deep).map(|i| i.to_string()).collect();
        assert_eq!(answer(&format!("i in ({})", list.join(", ")), &columns), Ok("tt-f".into()));
        // As deep as it may be.
        let most = 127;
        for text in [
            format!("{}b{}", "(".repeat(most), ")".repeat(most)),
            format!("{}b", "not ".repeat(126)),
            format!("{}i{} = 2", "(".repeat(100), " + 0)".repeat(100)),
            format!("b{}", " is true".repeat(most)),
        ] {
            assert!(answer(&text, &columns).is_ok(), "{text}: {:?}", answer(&text, &columns));
        }
    });
}

#[test]
fn columns_that_were_not_bound_are_refused() {
    let columns = columns();
    let predicate = bind(&Expr::parse("i = 1 and s = 'a'").unwrap(), &columns).unwrap();
    let (i, s) = (columns[0].1.clone(), columns[9].1.clone());
    let error = |columns: &[ArrayRef], rows| predicate.evaluate(columns, rows).unwrap_err().to_string();
    assert_eq!(error(std::slice::from_ref(&i), 4), "an expression over 2 fields was given 1 columns");
    assert_eq!(error(&[s.clone(), i.clone()], 4), "i was Int64 when the expression was bound and is Utf8 now");
    assert_eq!(error(&[i.clone(), s.clone()], 5), "i has 4 values for 5 rows");
    assert!(predicate.evaluate(&[i, s], 4).is_ok());
}

#[test]
fn predicates_are_shared_and_empty_batches_answered() {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    let columns = columns();
    for text in
        ["i = 1 or s like 'a_' or d = 'a' or i / 2 > f or v in ('a') or true", "t > '2024-01-01'", "null", "i in (1)"]
    {
        let expr = Expr::parse(text).unwrap();
        assert_eq!(expr.to_string(), text);
        let predicate = bind(&expr, &columns).unwrap();
        shared(&predicate);
        let of = |name: &String| columns.iter().find(|(n, _)| n == name).map(|(_, c)| c.slice(0, 0));
        let empty: Vec<ArrayRef> = expr.fields().iter().filter_map(of).collect();
        assert_eq!(predicate.evaluate(&empty, 0).unwrap().len(), 0, "{text}");
    }
}
