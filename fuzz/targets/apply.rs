//! Server-side apply: an object, what one manager applies, what another forces. What is applied twice is applied once.

#![no_main]

use api::apply::{self, Request};
use api::codec::normalise::{Unknown, normalise};
use api::schema::Model;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let Some([object, first, second]) = fuzz::parts(input) else { return };
    let (Some((object, model)), Some(first), Some(second)) =
        (fuzz::object(object), fuzz::json(first), fuzz::json(second))
    else {
        return;
    };
    let created = apply::update(&request(&model, &object, "creator"), None, object.clone());
    let applied = match (applied(&model, &created, "one", &first, false), second.is_object()) {
        (Some(applied), _) => applied,
        (None, _) => created.clone(),
    };
    let Some(forced) = self::applied(&model, &applied, "two", &second, true) else { return };
    // An item whose name is stated with an empty part is not the stored one, which lacks that part: it is added again.
    let mut stored = second.clone();
    if normalise(&mut stored, &model, Unknown::Ignore).is_ok() && stored == second {
        assert_eq!(self::applied(&model, &forced, "two", &second, true).as_ref(), Some(&forced));
    }
    // Whoever writes back what it read owns nothing new.
    let mut unchanged = forced.clone();
    if normalise(&mut unchanged, &model, Unknown::Ignore).is_ok() && unchanged == forced {
        assert_eq!(apply::update(&request(&model, &object, "reader"), Some(&forced), unchanged), forced);
    }
});

fn request<'a>(model: &'a Model, object: &'a Value, manager: &'a str) -> Request<'a> {
    Request {
        model,
        api_version: object["apiVersion"].as_str().unwrap_or_default(),
        kind: object["kind"].as_str().unwrap_or_default(),
        manager,
        subresource: "",
        reset: None,
        is_served: &|_| true,
        now: Timestamp::UNIX_EPOCH,
    }
}

/// The object as the registry would store it after an apply that is allowed.
fn applied(model: &Model, live: &Value, manager: &str, wanted: &Value, force: bool) -> Option<Value> {
    let mut object = apply::apply(&request(model, live, manager), Some(live), wanted, force).ok()?;
    normalise(&mut object, model, Unknown::Ignore).ok()?;
    Some(object)
}
