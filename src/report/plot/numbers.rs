//! The numbers behind a plot: one model for the table below it, for its download, and for the data in its picture.

use super::super::format::{plain, three_digits};
use super::look::Look;

/// Columns and rows.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in super::super) struct Numbers {
    pub(in super::super) columns: Vec<String>,
    pub(in super::super) rows: Vec<Vec<Value>>,
}

/// What is in a cell.
#[derive(Clone, PartialEq, Debug)]
pub(in super::super) enum Value {
    /// The name of a row of the summary, with its place there and its look.
    Row(String, usize, Look),
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// Nothing is known.
    Nothing,
}

impl From<Option<f64>> for Value {
    fn from(number: Option<f64>) -> Value {
        number.map_or(Value::Nothing, Value::Number)
    }
}

impl Numbers {
    /// As other programs read them: every number to its last digit, RFC 4180.
    pub(in super::super) fn csv(&self) -> String {
        let mut out = csv::Writer::from_writer(Vec::new());
        let lines = std::iter::once(self.columns.iter().map(|head| plain(head)).collect::<Vec<_>>());
        let lines = lines.chain(self.rows.iter().map(|row| row.iter().map(Value::exact).collect()));
        for line in lines {
            out.write_record(line).expect("lines of one length go into memory");
        }
        let bytes = out.into_inner().expect("memory takes everything");
        String::from_utf8(bytes).expect("what was written is text")
    }
}

impl Value {
    fn exact(&self) -> String {
        match self {
            Value::Row(text, ..) | Value::Text(text) => plain(text),
            Value::Number(number) => number.to_string(),
            Value::Nothing => String::new(),
        }
    }

    /// Whether it stands to the right of its column.
    pub(in super::super) fn is_numeric(&self) -> bool {
        match self {
            Value::Number(_) | Value::Nothing => true,
            Value::Text(text) => text.starts_with(|first: char| first.is_ascii_digit()),
            Value::Row(..) => false,
        }
    }

    /// To three digits.
    pub(in super::super) fn short(&self) -> String {
        match self {
            Value::Row(text, ..) | Value::Text(text) => plain(text),
            Value::Number(number) => three_digits(*number),
            Value::Nothing => "–".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_for_programs_and_short_for_readers() {
        let row = vec![Value::Text("a, \"b\"\n".into()), Value::Number(1.0 / 3.0), Value::Nothing];
        assert_eq!(row.iter().map(Value::short).collect::<Vec<_>>(), ["a, \"b\"", "0.333", "–"]);
        let numbers = Numbers { columns: ["x", "y", "z"].map(str::to_owned).to_vec(), rows: vec![row] };
        assert_eq!(numbers.csv(), "x,y,z\n\"a, \"\"b\"\"\",0.3333333333333333,\n");
    }
}
