//! Selectors: which objects a list, a watch, a Service or a controller means, by label or by field.

pub mod field;
pub mod label;

#[cfg(test)]
mod tests;
