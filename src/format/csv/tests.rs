//! The decoder against `csv-core`, record by record, and against cases by hand.

use super::*;
use crate::format::TimeField;
use crate::time::TimeFormat;
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

fn block(text: &[u8]) -> TextBlock {
    TextBlock { data: text.to_vec().into(), start: 0, end: text.len(), offset: 0, max_record: 1 << 20 }
}

fn field(name: &str, ty: FieldType) -> Field {
    Field { name: name.to_owned(), ty }
}

/// Everything as text.
fn texts(layout: &Layout) -> Wanted {
    Wanted { fields: layout.names.iter().map(|n| field(n, FieldType::Text)).collect(), ..Wanted::default() }
}

type Row = Vec<Option<Vec<u8>>>;

fn rows(decoded: &Decoded) -> Vec<Row> {
    assert!(decoded.columns.iter().all(|c| c.len() == decoded.rows));
    let cell = |c: &arrow_array::ArrayRef, row| {
        let c = c.as_binary_view();
        (!c.is_null(row)).then(|| c.value(row).to_vec())
    };
    (0..decoded.rows).map(|row| decoded.columns.iter().map(|c| cell(c, row)).collect()).collect()
}

fn decode(text: &[u8], dialect: Dialect, header: bool) -> (Layout, Decoded) {
    let block = block(text);
    let layout = Layout::read(dialect, header, &block);
    let decoded = CsvDecoder::new(&texts(&layout), &layout).unwrap().decode(&block).unwrap();
    (layout, decoded)
}

/// The rows of a text with a header, `~` for null.
fn shown(text: &str) -> Vec<String> {
    let (_, decoded) = decode(text.as_bytes(), Dialect::CSV, true);
    let cell = |c: &Option<Vec<u8>>| c.as_ref().map_or("~".into(), |v| String::from_utf8_lossy(v).into_owned());
    rows(&decoded).iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join("|")).collect()
}

fn reasons(text: &str) -> Vec<(u64, &'static str)> {
    decode(text.as_bytes(), Dialect::CSV, true).1.bad.iter().map(|b| (b.line, b.reason)).collect()
}

#[test]
fn fields_as_they_are_written() {
    assert_eq!(shown("a,b\n1,2\r\n\n\r\n,\"\"\n\"x,\"\"y\"\"\n\",z"), ["1|2", "~|", "x,\"y\"\n|z"]);
    assert_eq!(shown("a,b\n\"q\"tail,lit\"eral\"\n\"\"\"\",\"\"\"a\"b\"c\n"), ["qtail|lit\"eral\"", "\"|\"ab\"c"]);
    assert_eq!(shown("a\n\"x\"\r\n\"y\r\"\nz\r"), ["x", "y\r", "z"]);
    assert_eq!(shown("\u{feff}\"a\",b\n1,2\n"), ["1|2"]);
    let (layout, decoded) = decode(b"1\t\"a\tb\"\n2\t'\n", Dialect::TSV, false);
    assert_eq!(layout.names, ["c1", "c2"]);
    assert_eq!(rows(&decoded)[0][1].as_deref(), Some(&b"a\tb"[..]));
    let single = Dialect { delimiter: b'|', quote: Some(b'\'') };
    assert_eq!(
        rows(&decode(b"h|i\n'a|''b'|\"c\"\n", single, true).1),
        [[Some(b"a|'b".to_vec()), Some(b"\"c\"".to_vec())]]
    );
    let none = Dialect { delimiter: b',', quote: None };
    assert_eq!(rows(&decode(b"h,i\n\"a,b\"\n", none, true).1), [[Some(b"\"a".to_vec()), Some(b"b\"".to_vec())]]);
}

#[test]
fn headers_are_named_plainly() {
    let names = |text: &[u8]| Layout::read(Dialect::CSV, true, &block(text)).names;
    assert_eq!(names(b"\xef\xbb\xbf ts ,\"a\"\"b\nc\",x,x,,x\r\n"), ["ts", "a\"b\nc", "x", "x_1", "c5", "x_2"]);
    assert_eq!(names(b"x_1,x,x\n"), ["x_1", "x", "x_2"]);
    assert_eq!(names(b"\n\r\nonly"), ["only"]);
    assert_eq!(names(b""), [""; 0]);
    let zeek = b"#separator \\x09\n#path\tweird\n#fields\tts\tuid\tname\n#types\ttime\tstring\tstring\n1.5\t-\t\"x\n#close\tnow\n";
    let (layout, decoded) = decode(zeek, Dialect::TSV, true);
    assert_eq!((layout.names.join(" ").as_str(), layout.header), ("ts uid name", Header::Zeek));
    assert_eq!(rows(&decoded), [[Some(b"1.5".to_vec()), None, Some(b"\"x".to_vec())]]);
    assert_eq!((decoded.bad.len(), decoded.lines), (0, 6));
}

#[test]
fn ragged_and_endless_records_are_bad() {
    assert_eq!(reasons("a,b\n1\n1,2\n1,2,3\n1,2,,\n1,2,\"\"\n"), [(1, TOO_FEW), (3, TOO_MANY), (5, TOO_MANY)]);
    assert_eq!(reasons("a,b\n\"1\n\",2\n1\n"), [(3, TOO_FEW)]);
    assert_eq!(reasons("a\n1\n\"open\n2\n3"), [(2, UNCLOSED)]);
    let mut long = block(b"a,b\n1,\"open\nxxxxxxx\nyyyy\n3,4\n");
    long.max_record = 12;
    let layout = Layout::read(Dialect::CSV, true, &long);
    let decoded = CsvDecoder::new(&texts(&layout), &layout).unwrap().decode(&long).unwrap();
    assert_eq!(rows(&decoded), [[Some(b"3".to_vec()), Some(b"4".to_vec())]]);
    let short: Vec<_> = decoded.bad.iter().map(|b| (b.line, b.reason)).collect();
    assert_eq!(short, [(1, TOO_LONG), (3, TOO_FEW)]);
}

#[test]
fn values_of_every_type() {
    let text =
        b"t,i,f,b\n2024-01-01T00:00:00Z, 7 ,1e3,true\n,\"\",\"\",\"\"\n2024-01-01 00:00:01Z,x,-inf,no\n x ,9,1,TRUE\n";
    let block = block(text);
    let layout = Layout::read(Dialect::CSV, true, &block);
    let fields = vec![
        field("t", FieldType::Timestamp),
        field("i", FieldType::Int64),
        field("f", FieldType::Float64),
        field("b", FieldType::Boolean),
    ];
    let decoded = CsvDecoder::new(&Wanted { fields, ..Wanted::default() }, &layout).unwrap().decode(&block).unwrap();
    let times: Vec<_> = decoded.columns[0].as_primitive::<TimestampMicrosecondType>().iter().collect();
    assert_eq!(times, [Some(1_704_067_200_000_000), None, Some(1_704_067_201_000_000), None]);
    let ints: Vec<_> = decoded.columns[1].as_primitive::<Int64Type>().iter().collect();
    assert_eq!(ints, [Some(7), None, None, Some(9)]);
    let floats: Vec<_> = decoded.columns[2].as_primitive::<Float64Type>().iter().collect();
    assert_eq!(floats, [Some(1000.0), None, Some(f64::NEG_INFINITY), Some(1.0)]);
    let bools: Vec<_> = decoded.columns[3].as_boolean().iter().collect();
    assert_eq!(bools, [Some(true), None, None, Some(true)]);
    assert_eq!((decoded.cast_failed, decoded.bad.len()), (3, 0));

    let fraction = block_of(b"i\n1\n2.5\n");
    let layout = Layout::read(Dialect::CSV, true, &fraction);
    let wanted = Wanted { fields: vec![field("i", FieldType::Int64)], ..Wanted::default() };
    let error = CsvDecoder::new(&wanted, &layout).unwrap().decode(&fraction).unwrap_err().to_string();
    assert_eq!(error, "byte 4: field `i` is read as an integer, but a record has 2.5: say --type i:float");
}

fn block_of(text: &[u8]) -> TextBlock {
    block(text)
}

#[test]
fn times_and_other_files() {
    let text = b"v,ts\n1,1700000000\n2,never\n3,\"2023-11-14 22:13:20\"\n";
    let first = block(text);
    let layout = Layout::read(Dialect::CSV, true, &first);
    let time = Some(TimeField { name: "ts".into(), format: TimeFormat::Auto });
    let decoder =
        CsvDecoder::new(&Wanted { time, fields: vec![field("v", FieldType::Int64)], ..Wanted::default() }, &layout)
            .unwrap();
    let decoded = decoder.decode(&first).unwrap();
    assert_eq!(decoded.times, [1_700_000_000_000_000; 2]);
    assert_eq!(decoded.bad[0].reason, NO_TIME);
    assert!(decoder.for_input(&first).unwrap().is_none());
    let other = block(b"ts,x,v\n1700000001,,4\n");
    let decoded = decoder.for_input(&other).unwrap().unwrap().decode(&other).unwrap();
    assert_eq!((decoded.times[0], decoded.columns[0].as_primitive::<Int64Type>().value(0)), (1_700_000_001_000_000, 4));
    let missing = decoder.for_input(&block(b"ts,x\n")).map(|_| ()).unwrap_err().to_string();
    assert_eq!(missing, "the header has no column \"v\"");
}

#[test]
fn types_are_the_narrowest() {
    use FieldType::{Boolean, Float64, Int64, Text, Timestamp};
    let text = b"i,f,b,t,x,n,d,m\n1,1,true,2024-01-01 00:00,a,,2024-01-01,1\n, 2.5 ,FALSE,10/Oct/2000:13:55:36 -0700,,,2024/02/29,true\n";
    let block = block(text);
    let types = Layout::read(Dialect::CSV, true, &block).infer(&block).unwrap();
    assert_eq!(types, [Int64, Float64, Boolean, Timestamp, Text, Text, Timestamp, Text]);
}

/// The fields of every record, in the opinion of `csv-core`.
fn twin(text: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut builder = csv_core::ReaderBuilder::new();
    builder.terminator(csv_core::Terminator::Any(b'\n'));
    let read = |text: &[u8]| {
        let mut reader = builder.build();
        let (mut out, mut ends) = (vec![0; 2 * text.len() + 10], vec![0; text.len() + 10]);
        let (result, taken, _, fields) = reader.read_record(text, &mut out, &mut ends);
        // Without its end a record is read with nothing behind it.
        let fields = if result == csv_core::ReadRecordResult::InputEmpty {
            let used = ends[..fields].last().copied().unwrap_or(0);
            let mut more = 0;
            loop {
                let (result, _, n, f) = reader.read_record(b"", &mut out[used + more..], &mut ends[fields + more..]);
                more += n + f;
                if !matches!(result, csv_core::ReadRecordResult::InputEmpty) {
                    break;
                }
            }
            None
        } else {
            Some(fields)
        };
        (
            taken,
            fields.map(|n| {
                let mut start = 0;
                ends[..n]
                    .iter()
                    .map(|end| {
                        let field = out[start..*end].to_vec();
                        start = *end;
                        field
                    })
                    .collect::<Vec<_>>()
            }),
        )
    };
    let mut records = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (taken, _) = read(rest);
        let (record, tail) = rest.split_at(taken);
        rest = tail;
        // Blank lines come with the record behind them.
        let blank = record.split_inclusive(|b| *b == b'\n').take_while(|l| *l == b"\n").count();
        let record = &record[blank..];
        let line = record.strip_suffix(b"\n").unwrap_or(record);
        let mut line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        if !line.is_empty() {
            line.push(b'\n');
            records.push(read(&line).1.unwrap_or_default());
        }
    }
    records
}

proptest! {
    #[test]
    fn agrees_with_csv_core(
        text in prop::collection::vec(prop_oneof![3 => Just(b'"'), 4 => Just(b','), 2 => Just(b'\n'), 1 => Just(b'\r'), 6 => b'a'..=b'c'], 0..200),
        pad in 0usize..70,
    ) {
        // Every quote is closed, so that the twin and the rule for the last record do not differ.
        let mut text = [vec![b'x'; pad], text].concat();
        let walked = |text: &[u8]| {
            let mut walker = Walker::new(Dialect::CSV, 1 << 20).unwrap();
            walker.skip(text, 0);
            walker
        };
        if walked(&text).inside_quotes() {
            text.push(b'"');
        }
        text.push(b'\n');
        if walked(&text).inside_quotes() {
            return Ok(());
        }
        let expected = twin(&text);
        for width in 1..4 {
            let names: Vec<String> = (0..width).map(|i| format!("f{i}")).collect();
            let layout = Layout { dialect: Dialect::CSV, names, header: Header::None };
            let decoded = CsvDecoder::new(&texts(&layout), &layout).unwrap().decode(&block(&text)).unwrap();
            let fits = |r: &&Vec<Vec<u8>>| r.len() == width;
            let want: Vec<&Vec<Vec<u8>>> = expected.iter().filter(fits).collect();
            // An empty quoted field is text, an empty one null: the twin knows no difference. Trailing empty ones are let
            // through here and not there.
            let got: Vec<Vec<Vec<u8>>> = rows(&decoded).into_iter().map(|r| r.into_iter().map(Option::unwrap_or_default).collect()).collect();
            let strict: Vec<_> = got.iter().filter(|r| expected.contains(*r)).collect();
            prop_assert!(want.iter().all(|w| strict.contains(w)), "{:?} {:?}", want, got);
            prop_assert_eq!(decoded.rows + decoded.bad.len(), expected.len());
            prop_assert_eq!(decoded.lines, text.iter().filter(|b| **b == b'\n').count() as u64);
            // A few columns only, anywhere: the same rows.
            let last = Wanted { fields: vec![field(&format!("f{}", width - 1), FieldType::Text)], ..Wanted::default() };
            let few = CsvDecoder::new(&last, &layout).unwrap().decode(&block(&text)).unwrap();
            prop_assert_eq!(&few.bad, &decoded.bad);
            let column: Vec<Row> = rows(&decoded).into_iter().map(|mut r| r.split_off(width - 1)).collect();
            prop_assert_eq!(rows(&few), column);
        }
    }
}
