//! Record batches as columns of the store, and back.
//!
//! Values of 8, 32, 64 and 128 bits travel as words of their width, booleans as bytes, text and binary as bytes; every other
//! type is refused when the run would have to spill it. A column is one column of the store, whose validity is the array's.

use crate::store::column::{Bits, Column, ColumnRef, ColumnType, Slice};
use crate::{Error, ErrorKind, Result};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_cast::cast;
use arrow_schema::{DataType, SchemaRef};

/// How a type is stored: the type it is cast to, and the words of that.
fn stored(data_type: &DataType) -> Result<(DataType, ColumnType)> {
    use DataType as T;
    Ok(match data_type {
        T::Boolean => (T::UInt8, ColumnType::U8),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => (T::Utf8, ColumnType::Bytes),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => (T::Binary, ColumnType::Bytes),
        T::Int16 => (T::Int32, ColumnType::U32),
        T::UInt16 => (T::UInt32, ColumnType::U32),
        T::Float16 => (T::Float32, ColumnType::U32),
        T::Null => (T::UInt8, ColumnType::U8),
        other => match other.primitive_width() {
            Some(1) => (other.clone(), ColumnType::U8),
            Some(4) => (other.clone(), ColumnType::U32),
            Some(8) => (other.clone(), ColumnType::U64),
            Some(16) => (other.clone(), ColumnType::I128),
            _ => {
                let message = format!("columns of type {other} cannot be spilled; raise --memory, or leave them out");
                return Err(Error::new(ErrorKind::Memory, message));
            }
        },
    })
}

/// Bytes of a row in `column`, about.
pub(in crate::query) fn width(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Dictionary(..) => {
            let values = column.as_any_dictionary().values();
            values.get_array_memory_size() / values.len().max(1) + 4
        }
        _ => column.to_data().get_slice_memory_size().unwrap_or(0) / column.len().max(1) + 1,
    }
}

/// The columns of a batch, in memory of their own.
pub(in crate::query) fn to_columns(batch: &RecordBatch) -> Result<Vec<Column>> {
    batch.columns().iter().map(to_column).collect()
}

/// A column in memory of its own.
pub(super) fn to_column(array: &ArrayRef) -> Result<Column> {
    let (to, ty) = stored(array.data_type())?;
    let array = if array.data_type() == &to { array.clone() } else { cast(array, &to)? };
    let nulls = array.nulls().filter(|n| n.null_count() > 0);
    let validity = nulls.map(|n| Bits { bytes: n.validity(), offset: n.offset() });
    let (data, rows) = (array.to_data(), array.len());
    let offsets: Vec<u32>;
    let values = match ty {
        ColumnType::U8 => Slice::U8(&data.buffer::<u8>(0)[..rows]),
        ColumnType::U32 => Slice::U32(&data.buffer::<u32>(0)[..rows]),
        ColumnType::I128 => Slice::I128(&data.buffer::<i128>(0)[..rows]),
        ColumnType::Bytes => {
            offsets = data.buffer::<i32>(0)[..=rows].iter().map(|o| *o as u32).collect();
            Slice::Bytes { offsets: &offsets, data: data.buffers()[1].as_slice() }
        }
        ColumnType::U64 | ColumnType::I64 | ColumnType::F64 => Slice::U64(&data.buffer::<u64>(0)[..rows]),
    };
    Ok(ColumnRef { values, validity }.to_column())
}

/// The batch that [`to_columns`] was given, or rows of it.
pub(in crate::query) fn to_batch(columns: &[ColumnRef<'_>], rows: usize, schema: &SchemaRef) -> Result<RecordBatch> {
    let arrays = columns.iter().zip(schema.fields()).map(|(column, field)| to_array(column, field.data_type()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), arrays.collect::<Result<_>>()?, &options)?)
}

/// The array that [`to_column`] was given.
pub(super) fn to_array(column: &ColumnRef<'_>, data_type: &DataType) -> Result<ArrayRef> {
    let (stored, _) = stored(data_type)?;
    let rows = column.len();
    let nulls = column.validity.map(|bits| (0..rows).map(|i| bits.get(i)).collect::<NullBuffer>());
    let buffers = match column.values {
        Slice::U8(v) => vec![Buffer::from_slice_ref(v)],
        Slice::U32(v) => vec![Buffer::from_slice_ref(v)],
        Slice::U64(v) => vec![Buffer::from_slice_ref(v)],
        Slice::I64(v) => vec![Buffer::from_slice_ref(v)],
        Slice::F64(v) => vec![Buffer::from_slice_ref(v)],
        Slice::I128(v) => vec![Buffer::from_slice_ref(v)],
        Slice::Bytes { offsets, data } => {
            let first = offsets[0];
            let bytes = Buffer::from(&data[first as usize..offsets[rows] as usize]);
            vec![offsets.iter().map(|o| (o - first) as i32).collect::<Vec<i32>>().into(), bytes]
        }
    };
    if data_type == &DataType::Null {
        return Ok(arrow_array::new_null_array(data_type, rows));
    }
    let empty = arrow_array::new_empty_array(&stored).to_data().into_builder();
    let data = empty.len(rows).nulls(nulls).buffers(buffers);
    let array = make_array(data.build()?);
    if &stored == data_type { Ok(array) } else { Ok(cast(&array, data_type)?) }
}
