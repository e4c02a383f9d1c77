//! Paths of fields as error messages write them: `spec.containers[0].name`, `metadata.labels[app]`.
//!
//! A path borrows its parent, so that a validator that finds nothing wrong allocates nothing.

use std::fmt;

/// One step below a parent path.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The first step: `metadata`, `spec`. An empty name is the object itself, whose children are written without a dot.
    pub const fn root(name: &'a str) -> Self {
        Self { parent: None, step: Step::Name(name) }
    }

    /// `self.name`.
    pub const fn child(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Name(name) }
    }

    /// `self[index]`.
    pub const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// `self[key]`.
    pub const fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    /// Whether this is the object itself.
    pub(crate) fn is_empty(&self) -> bool {
        self.parent.is_none() && matches!(self.step, Step::Name(""))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Name(name) => {
                if self.parent.is_some_and(|parent| !parent.is_empty()) {
                    f.write_str(".")?;
                }
                f.write_str(name)
            }
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_upstream_writes_them() {
        let spec = Path::root("spec");
        assert_eq!(spec.child("containers").index(0).child("name").to_string(), "spec.containers[0].name");
        assert_eq!(Path::root("metadata").child("labels").key("app").to_string(), "metadata.labels[app]");
        assert_eq!(Path::root("").child("spec").to_string(), "spec");
        assert_eq!(spec.to_string(), "spec");
    }
}
