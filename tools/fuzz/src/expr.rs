//! Expressions: parse, bind to types, evaluate over a few rows, whole and row by row.
//!
//! The first byte and the names choose the types.

#![no_main]

use arrow_array::types::Int8Type;
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, DictionaryArray, Float64Array, Int8Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use windrow::ErrorKind;
use windrow::query::expr::Expr;

const ROWS: usize = 5;

/// A column of each sort, with what is at the edge of it.
fn column(sort: usize) -> ArrayRef {
    let text = [Some("a"), Some(""), None, Some("GET /a%b_c"), Some("2024-01-01")];
    match sort % 8 {
        0 => Arc::new(Int64Array::from(vec![Some(0), Some(i64::MAX), None, Some(i64::MIN), Some(-1)])),
        1 => Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::NAN), None, Some(1e300), Some(f64::INFINITY)])),
        2 => Arc::new(StringArray::from(text.to_vec())),
        3 => Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true), Some(false)])),
        4 => Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(1), None, Some(-1), Some(1 << 50)])),
        5 => Arc::new(UInt64Array::from(vec![Some(0), Some(u64::MAX), None, Some(1 << 63), Some(7)])),
        6 => Arc::new(text.into_iter().collect::<DictionaryArray<Int8Type>>()),
        _ => {
            let bytes =
                [Some(&b"a"[..]), Some(b"\xff\xfe"), None, Some(b"a longer text than twelve bytes"), Some(b"7")];
            if sort % 16 == 7 { Arc::new(BinaryViewArray::from(bytes.to_vec())) } else { small() }
        }
    }
}

fn small() -> ArrayRef {
    Arc::new(Int8Array::from(vec![Some(0), Some(i8::MAX), None, Some(i8::MIN), Some(-1)]))
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let expr = match Expr::parse(text) {
        Ok(expr) => expr,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            return;
        }
    };
    assert_eq!(expr.to_string(), text);
    assert_eq!(Expr::parse(&expr.to_string()).expect("what parsed parses again"), expr);
    let fields = expr.fields();
    let hints = expr.type_hints();
    assert!(fields.iter().eq(hints.iter().map(|(name, _)| name)));
    for (i, field) in fields.iter().enumerate() {
        assert!(!fields[..i].contains(field), "each field once");
    }
    let sort = |name: &str| name.bytes().fold(usize::from(*choice), |sum, byte| sum + usize::from(byte));
    let columns: Vec<ArrayRef> = fields.iter().map(|name| column(sort(name))).collect();
    let lookup = |name: &str| Some(column(sort(name)).data_type().clone());
    let predicate = match expr.bind(&lookup, &[]) {
        Ok(predicate) => predicate,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            return;
        }
    };
    let missing = expr.bind(&|_| None, &fields);
    assert_eq!(missing.is_ok(), fields.is_empty());
    let whole = predicate.evaluate(&columns, ROWS);
    let rows: Vec<_> = (0..ROWS)
        .map(|row| {
            let columns: Vec<ArrayRef> = columns.iter().map(|column| column.slice(row, 1)).collect();
            predicate.evaluate(&columns, 1)
        })
        .collect();
    match whole {
        Ok(answer) => {
            assert_eq!(answer.len(), ROWS);
            for (row, one) in rows.into_iter().enumerate() {
                let one = one.expect("a row of what evaluates evaluates");
                assert_eq!(one.is_valid(0).then(|| one.value(0)), answer.is_valid(row).then(|| answer.value(row)));
            }
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Data, "{error}");
            assert!(rows.iter().any(Result::is_err), "{error}, but in no row");
        }
    }
    let none: Vec<ArrayRef> = columns.iter().map(|column| column.slice(0, 0)).collect();
    assert_eq!(predicate.evaluate(&none, 0).map(|answer| answer.len()).ok(), Some(0));
});
