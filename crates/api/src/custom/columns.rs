//! `additionalPrinterColumns`: what `kubectl get` shows of custom resources.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::jsonpath::JsonPath;
use crate::resources::columns::duration;
use crate::resources::fields::{int, text};

/// A column, after the one that names the object.
#[derive(Clone, Debug, PartialEq)]
pub struct PrinterColumn {
    pub name: String,
    /// An OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    path: JsonPath,
}

/// The columns of a version. A version that names none has its age; from one that cannot be read on there are none.
pub(super) fn read(columns: &[Value]) -> Vec<PrinterColumn> {
    if columns.is_empty() {
        let age = json!({
            "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "How long ago the object was created.",
        });
        return PrinterColumn::read(&age).into_iter().collect();
    }
    columns.iter().map_while(PrinterColumn::read).collect()
}

impl PrinterColumn {
    fn read(column: &Value) -> Option<Self> {
        let path = text(column, "jsonPath");
        let description = match text(column, "description") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            stated => stated.to_owned(),
        };
        Some(Self {
            name: text(column, "name").to_owned(),
            kind: text(column, "type").to_owned(),
            format: text(column, "format").to_owned(),
            description,
            priority: int(column, "priority"),
            path: JsonPath::parse(path).ok()?,
        })
    }

    /// The column as a Table describes it.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority,
        })
    }

    /// What the column says of an object: null where it says nothing of the column's type.
    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(value) = self.path.find(object).first().copied() else { return Value::Null };
        match (self.kind.as_str(), value) {
            ("string", Value::String(_)) => value.clone(),
            ("string", Value::Null) => json!("<nil>"),
            ("string", other) => json!(other.to_string()),
            ("integer", Value::Number(number)) if number.is_f64() => json!(number.as_f64().map(|it| it as i64)),
            ("integer", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("number", Value::Number(number)) => json!(number.as_f64()),
            ("date", Value::String(time)) => match crate::time::parse(time) {
                Ok(_) => duration::since(value, now).into(),
                Err(_) => json!("<invalid>"),
            },
            _ => Value::Null,
        }
    }
}
