//! YAML, as far as it is another way to write JSON.

use serde_json::Value;

/// Documents with more nodes than this, aliases expanded, are refused: a page of YAML can stand for gigabytes.
const MAX_NODES: usize = 250_000;

/// Why a text is not a YAML document that stands for JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// Reads one document with the words of YAML 1.1 that Kubernetes knows (`yes`, `0644`). Of a key that stands twice
/// the last value holds.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_NODES },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|why| YamlError(one_line(&why.to_string())))
}

/// Writes one document.
pub fn write(document: &Value) -> Result<String, YamlError> {
    serde_saphyr::to_string(document).map_err(|why| YamlError(why.to_string()))
}

/// The reader's errors show the source over several lines; a refusal is one line.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_is_read_as_kubernetes_reads_it() {
        let text = "a: yes\nb: 0644\nc: '1'\nd: [1, 2.5, null]\na: no\n";
        assert_eq!(parse(text).unwrap(), json!({"a": false, "b": 420, "c": "1", "d": [1, 2.5, null]}));
        assert!(parse("a: [").is_err());
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e]\n";
        assert!(parse(bomb).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let document = json!({"a": "yes", "b": "010", "c": "1e3", "d": "null", "e": {"f": ["x: y", ""]}, "g": 7});
        assert_eq!(parse(&write(&document).unwrap()).unwrap(), document);
    }
}
