//! Text of any Arrow layout as bytes by row: `Utf8`, `LargeUtf8`, views, binary, and dictionaries of these.

use crate::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    BinaryViewType, ByteArrayType, ByteViewType, GenericBinaryType, GenericStringType, StringViewType,
};
use arrow_array::{Array, ArrayRef, GenericByteArray, GenericByteViewArray};
use arrow_schema::DataType;

/// A text column read by row.
pub(crate) enum TextColumn<'a> {
    Utf8(&'a GenericByteArray<GenericStringType<i32>>),
    LargeUtf8(&'a GenericByteArray<GenericStringType<i64>>),
    Binary(&'a GenericByteArray<GenericBinaryType<i32>>),
    LargeBinary(&'a GenericByteArray<GenericBinaryType<i64>>),
    Utf8View(&'a GenericByteViewArray<StringViewType>),
    BinaryView(&'a GenericByteViewArray<BinaryViewType>),
    Dictionary { keys: Vec<usize>, nulls: Option<arrow_buffer::NullBuffer>, values: Box<TextColumn<'a>> },
}

/// Whether columns of this type are text to windrow.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn bytes_at<T: ByteArrayType>(array: &GenericByteArray<T>, row: usize) -> Option<&[u8]> {
    array.is_valid(row).then(|| array.value(row).as_ref())
}

fn view_at<T: ByteViewType + ?Sized>(array: &GenericByteViewArray<T>, row: usize) -> Option<&[u8]> {
    array.is_valid(row).then(|| array.value(row).as_ref())
}

impl<'a> TextColumn<'a> {
    /// `column` by row.
    ///
    /// # Errors
    /// If the column is no text.
    pub(crate) fn new(column: &'a ArrayRef) -> Result<Self> {
        Ok(match column.data_type() {
            DataType::Utf8 => TextColumn::Utf8(column.as_string()),
            DataType::LargeUtf8 => TextColumn::LargeUtf8(column.as_string()),
            DataType::Binary => TextColumn::Binary(column.as_binary()),
            DataType::LargeBinary => TextColumn::LargeBinary(column.as_binary()),
            DataType::Utf8View => TextColumn::Utf8View(column.as_string_view()),
            DataType::BinaryView => TextColumn::BinaryView(column.as_binary_view()),
            DataType::Dictionary(..) => {
                let dictionary = column.as_any_dictionary();
                TextColumn::Dictionary {
                    keys: dictionary.normalized_keys(),
                    nulls: dictionary.nulls().cloned(),
                    values: Box::new(TextColumn::new(dictionary.values())?),
                }
            }
            other => return Err(Error::data(format!("a column of type {other} is not text"))),
        })
    }

    /// The bytes of `row`, or `None` for null.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            TextColumn::BinaryView(array) => view_at(array, row),
            TextColumn::Utf8(array) => bytes_at(array, row),
            TextColumn::LargeUtf8(array) => bytes_at(array, row),
            TextColumn::Binary(array) => bytes_at(array, row),
            TextColumn::LargeBinary(array) => bytes_at(array, row),
            TextColumn::Utf8View(array) => view_at(array, row),
            TextColumn::Dictionary { keys, nulls, values } => {
                if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                    None
                } else {
                    values.get(keys[row])
                }
            }
        }
    }
}
