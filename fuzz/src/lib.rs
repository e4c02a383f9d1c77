//! What the targets share: how an input is divided, and which kind a document is of.
//!
//! Each target holds one parser or rule to what must be true of it whatever it is given: it ends, in bounded time and
//! memory, without a panic, and its answer agrees with itself (what is written is read back, what is done twice is done).

use api::codec::normalise::{Unknown, normalise};
use api::resource::split_api_version;
use api::resources::definition_name;
use api::schema::{Model, builtin_model};
use serde_json::Value;

/// The parts of an input that lines of `---` divide; nothing unless there are just so many.
pub fn parts<const N: usize>(input: &[u8]) -> Option<[&str; N]> {
    let text = std::str::from_utf8(input).ok()?;
    text.split("\n---\n").collect::<Vec<_>>().try_into().ok()
}

/// What may open in an input that is worked on with the stack that libFuzzer has.
const OPENED: usize = 1000;

fn opened(input: &[u8]) -> usize {
    input.iter().filter(|byte| matches!(byte, b'[' | b'{')).count()
}

/// Checks what may be deep with as much of stack as the server's threads have.
pub fn with_room(input: &[u8], check: fn(&[u8])) {
    if opened(input) <= OPENED {
        return check(input);
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(api::codec::json::STACK);
        thread.spawn_scoped(scope, || check(input)).expect("a thread can be made").join().expect("it would have ended all");
    });
}

/// A document as the server reads it, unless it needs more of stack than there is here.
pub fn json(text: &str) -> Option<Value> {
    if opened(text.as_bytes()) > OPENED {
        return None;
    }
    Some(api::codec::json::parse(text.as_bytes()).ok()?.value)
}

/// The schema of the kind that a document says it is of.
pub fn model_of(document: &Value) -> Option<Model> {
    model(document["apiVersion"].as_str()?, document["kind"].as_str()?)
}

/// The schema of a built-in kind.
pub fn model(api_version: &str, kind: &str) -> Option<Model> {
    let (group, version) = split_api_version(api_version);
    builtin_model(&definition_name(group, version, kind))
}

/// An object as the registry holds it: of a built-in kind, in canonical form.
pub fn object(text: &str) -> Option<(Value, Model)> {
    let mut document = json(text)?;
    let model = model_of(&document)?;
    normalise(&mut document, &model, Unknown::Ignore).ok()?;
    Some((document, model))
}
