//! The values at several paths of a JSON object, found by one walk along it that decodes nothing.
//!
//! The JSON is some that was written here, as the store's is: what has no end is told from what has one, but not every
//! fault of grammar is seen.

use std::ops::Range;

use super::scan::{key_at, spaces, text, value_length};

/// Paths such as `/spec/nodeName`, by the numbers that they were given in.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    steps: Vec<Step>,
    count: usize,
}

/// A member by its name, wanted itself or for what is in it.
#[derive(Clone, Debug)]
struct Step {
    name: Box<str>,
    numbers: Vec<usize>,
    below: Vec<Step>,
}

/// Where the values of some [`Paths`] are, by their numbers; empty where there is none.
pub type Found = Vec<Range<usize>>;

impl Paths {
    pub fn new<'a>(pointers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut paths = Self::default();
        for pointer in pointers {
            let mut steps = &mut paths.steps;
            let mut names = pointer.split('/').skip(1).peekable();
            while let Some(name) = names.next() {
                let at = steps.iter().position(|step| *step.name == *name).unwrap_or_else(|| {
                    steps.push(Step { name: name.into(), numbers: Vec::new(), below: Vec::new() });
                    steps.len() - 1
                });
                if names.peek().is_none() {
                    steps[at].numbers.push(paths.count);
                }
                steps = &mut steps[at].below;
            }
            paths.count += 1;
        }
        paths
    }

    /// Where the values are in the object `json`; `None` if it is no object or does not end as one.
    pub fn find(&self, json: &[u8]) -> Option<Found> {
        let mut found = vec![0..0; self.count];
        let begin = spaces(json, 0);
        let end = walk(json, begin, &self.steps, &mut found)?;
        (spaces(json, end) == json.len()).then_some(found)
    }
}

/// Goes through the object at `begin`; returns where it ends.
fn walk(json: &[u8], begin: usize, steps: &[Step], found: &mut Found) -> Option<usize> {
    if json.get(begin)? != &b'{' {
        return None;
    }
    let mut at = spaces(json, begin + 1);
    if json.get(at)? == &b'}' {
        return Some(at + 1);
    }
    loop {
        let (key, value) = key_at(json, at)?;
        let name = text(&json[key])?;
        let step = steps.iter().find(|step| *step.name == *name);
        let end = match step {
            Some(step) if !step.below.is_empty() && json.get(value) == Some(&b'{') => {
                walk(json, value, &step.below, found)?
            }
            _ => value + value_length(&json[value..])?,
        };
        if end == value {
            return None;
        }
        for number in step.into_iter().flat_map(|step| &step.numbers) {
            found[*number] = value..end;
        }
        at = spaces(json, end);
        match json.get(at)? {
            b',' => at = spaces(json, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_where_they_are_and_nowhere_else() {
        let json = br#" {"a": {"nodeName": "decoy"}, "spec": {"\u006e": 1, "x": [{"y": "}]\""}, -1.5e3],
            "nodeName": "n\"1", "deep": {"er": {}}}, "spec2": {}, "z": null , "e":"" } "#;
        let check = |pointers: &[&str], expected: &[&str]| {
            let found = Paths::new(pointers.iter().copied()).find(json).unwrap();
            let found: Vec<_> = found.into_iter().map(|at| std::str::from_utf8(&json[at]).unwrap()).collect();
            assert_eq!(found, expected, "{pointers:?}");
        };
        check(&["/spec/nodeName", "/spec/n", "/nodeName", "/z"], &[r#""n\"1""#, "1", "", "null"]);
        check(&["/e", "/spec/deep/er", "/spec/deep", "/spec/x/y"], &["\"\"", "{}", r#"{"er": {}}"#, ""]);
        check(
            &["/z/y", "/a/nodeName", "/a", "/a"],
            &["", "\"decoy\"", r#"{"nodeName": "decoy"}"#, r#"{"nodeName": "decoy"}"#],
        );
        check(&[], &[]);
    }

    #[test]
    fn what_does_not_end_is_no_object() {
        let paths = Paths::new(["/a/b"]);
        let whole = br#"{"c":[1,{"d":"}"}],"a":{"b":1,"e":true},"f":null}"#;
        assert_eq!(paths.find(whole).unwrap()[0], 28..29);
        for end in 0..whole.len() {
            assert!(paths.find(&whole[..end]).is_none(), "{end}");
        }
        for text in ["[]", "null", "{}}", "{} {", r#"{"a" 1}"#, r#"{"a":}"#, r#"{"a":1 "b":2}"#, r#"{"a":1,}"#, "{a:1}"]
        {
            assert!(paths.find(text.as_bytes()).is_none(), "{text}");
        }
        assert_eq!(paths.find(b"{}").unwrap()[0], 0..0);
    }
}
