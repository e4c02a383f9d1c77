//! What an image consists of, and which documents are refused. Pure.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::Trouble;
use crate::images::formats::{ARCHITECTURE, Descriptor};
use crate::images::{digests, names};

/// Larger manifests are refused, and configurations.
pub(super) const LARGEST: u64 = 4 << 20;
/// As many layers as a container can have below its own.
const MOST_LAYERS: usize = 127;

/// What is asked for: all forms of manifests and indexes that are understood.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A document that may be used.
#[derive(Debug)]
pub(super) enum Document {
    /// Images by platform.
    Index(Vec<Descriptor>),
    Image(Parts),
}

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) configuration: Descriptor,
    /// Lowest first.
    pub(super) layers: Vec<Descriptor>,
}

/// All that any form has, so that a document of two forms is noticed: what one program takes for an index another
/// takes for an image (GHSA-5j5w-g665-5m35).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyForm {
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: String,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Index,
    Image,
    /// Docker's first, whose bytes are not what its digest is of.
    First,
    Unknown,
}

fn form(media_type: &str) -> Form {
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => {
            Form::Index
        }
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json" => {
            Form::Image
        }
        other if other.starts_with("application/vnd.docker.distribution.manifest.v1+") => Form::First,
        _ => Form::Unknown,
    }
}

/// Reads the document whose digest is `digest`, which was sent as `media_type`.
pub(super) fn read(digest: &str, media_type: &str, bytes: &[u8]) -> Result<Document, Trouble> {
    let refused = |why: &str| Trouble::unusable(format_args!("manifest {digest}"), why);
    let found: AnyForm = serde_json::from_slice(bytes).map_err(|why| refused(&why.to_string()))?;
    let (sent, stated) = (form(media_type), form(&found.media_type));
    if sent == Form::First || stated == Form::First || found.schema_version == Some(1) || found.fs_layers.is_some() {
        return Err(refused(
            "it is of schema 1, which nothing writes any more: push the image again with a current tool",
        ));
    }
    if found.schema_version.is_some_and(|it| it != 2) {
        return Err(refused("its schemaVersion is not 2"));
    }
    if !found.media_type.is_empty() && stated == Form::Unknown {
        return Err(refused(&format!("it is {}, which is no image", quoted(&found.media_type))));
    }
    if sent != Form::Unknown && stated != Form::Unknown && sent != stated {
        return Err(refused("it was sent as one form and says that it is another"));
    }
    let meant = if stated == Form::Unknown { sent } else { stated };
    match (found.manifests, found.config, found.layers) {
        (Some(manifests), None, None) if meant != Form::Image => {
            check(digest, &manifests)?;
            Ok(Document::Index(manifests))
        }
        (None, Some(configuration), Some(layers)) if meant != Form::Index => {
            check(digest, std::slice::from_ref(&configuration))?;
            check(digest, &layers)?;
            if configuration.size > LARGEST {
                let why = format!(
                    "its configuration {} has {} bytes: at most 4 MiB",
                    configuration.digest, configuration.size
                );
                return Err(refused(&why));
            }
            if layers.len() > MOST_LAYERS {
                return Err(refused(&format!("it has {} layers: at most {MOST_LAYERS}", layers.len())));
            }
            Ok(Document::Image(Parts { configuration, layers }))
        }
        (Some(_), _, _) => Err(refused("it is an index and an image at once")),
        _ => Err(refused("it is neither an index nor an image")),
    }
}

/// What a document refers to is at the registry itself, and has a digest that proves it.
fn check(digest: &str, descriptors: &[Descriptor]) -> Result<(), Trouble> {
    for it in descriptors {
        let refused = |why: &str| Err(Trouble::unusable(format_args!("manifest {digest}"), why));
        if !names::is_digest(&it.digest) {
            return refused(&format!("it refers to {}, which is no sha256 digest", quoted(&it.digest)));
        }
        if it.urls.as_ref().is_some_and(|it| !it.is_empty()) || it.media_type.contains(".foreign.") {
            return refused(&format!("its part {} is to be fetched elsewhere, which is never done", it.digest));
        }
    }
    Ok(())
}

/// The image for this machine.
pub(super) fn choose<'a>(digest: &str, manifests: &'a [Descriptor]) -> Result<&'a Descriptor, Trouble> {
    // Of several the plainest: newer variants run on newer machines only.
    let rank = |it: &Descriptor| match it.platform.as_ref().map(|it| it.variant.as_str()) {
        Some("" | "v8") => 0,
        Some("v1") => 1,
        None => 2,
        Some(_) => 3,
    };
    let fitting = manifests.iter().filter(|it| it.fits() && rank(it) < 3);
    fitting
        .min_by_key(|it| rank(it))
        .ok_or_else(|| Trouble::NotFound(format!("no match for platform linux/{ARCHITECTURE} in manifest {digest}")))
}

/// Checks what came against the digest that was asked for, and tells it; whatever came, where none was.
pub(super) fn verified(wanted: Option<&str>, bytes: &[u8]) -> Result<String, Trouble> {
    let found = digests::of(bytes);
    match wanted.filter(|it| **it != found) {
        Some(wanted) => Err(Trouble::Unusable(format!(
            "unexpected digest {found}, expected {wanted}: the registry, or somebody in between, sent something else"
        ))),
        None => Ok(found),
    }
}

/// A text of somebody else's, made short and plain.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

    fn descriptor(letter: &str) -> Value {
        json!({"mediaType": "application/octet-stream", "digest": format!("sha256:{}", letter.repeat(64)), "size": 7})
    }

    fn image() -> Value {
        json!({"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor("c"), "layers": [descriptor("a")]})
    }

    fn of(platform: Value, letter: &str) -> Value {
        let mut it = descriptor(letter);
        it["platform"] = platform;
        it
    }

    #[track_caller]
    fn refused(sent: &str, document: &Value, why: &str) {
        let digest = format!("sha256:{}", "d".repeat(64));
        let said = read(&digest, sent, document.to_string().as_bytes()).unwrap_err().to_string();
        assert!(said.contains(why) && said.contains(&digest) && !said.contains('\n'), "{said}");
    }

    #[test]
    fn input_37_manifests_that_are_two_things_are_refused() {
        let mut both = image();
        both["manifests"] = json!([descriptor("b")]);
        refused(IMAGE, &both, "at once");
        both["mediaType"] = INDEX.into();
        refused(INDEX, &both, "at once");
        refused(INDEX, &image(), "sent as one form");
        let unnamed = json!({"schemaVersion": 2, "config": descriptor("c"), "layers": [descriptor("a")]});
        refused(INDEX, &unnamed, "neither");
        refused(IMAGE, &json!({"schemaVersion": 2, "manifests": []}), "at once");
        assert!(read("d", "", unnamed.to_string().as_bytes()).is_ok(), "no type is no contradiction");
        assert!(read("d", IMAGE, image().to_string().as_bytes()).is_ok());
    }

    #[test]
    fn input_37_schema_1_is_refused() {
        refused("application/vnd.docker.distribution.manifest.v1+prettyjws", &json!({"schemaVersion": 1}), "schema 1");
        refused("application/json", &json!({"schemaVersion": 1, "fsLayers": [], "history": []}), "schema 1");
        refused(IMAGE, &json!({"schemaVersion": 3}), "schemaVersion");
    }

    #[test]
    fn input_37_foreign_layers_are_refused() {
        let mut foreign = image();
        foreign["layers"][0]["urls"] = json!(["https://elsewhere.example/layer"]);
        refused(IMAGE, &foreign, "elsewhere");
        let mut named = image();
        named["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
        refused(IMAGE, &named, "elsewhere");
        let mut listed = json!({"schemaVersion": 2, "manifests": [descriptor("a")]});
        listed["manifests"][0]["urls"] = json!(["file:///etc/passwd"]);
        refused(INDEX, &listed, "elsewhere");
    }

    #[test]
    fn input_37_too_many_layers_and_too_large_configurations_are_refused() {
        let mut many = image();
        many["layers"] = vec![descriptor("a"); 1000].into();
        refused(IMAGE, &many, "1000 layers");
        many["layers"] = vec![descriptor("a"); 127].into();
        assert!(read("d", IMAGE, many.to_string().as_bytes()).is_ok());
        let mut large = image();
        large["config"]["size"] = (10 << 20).into();
        refused(IMAGE, &large, "10485760 bytes");
    }

    #[test]
    fn input_37_digests_that_prove_nothing_are_refused() {
        for digest in ["md5:1234", "sha256:../../etc", "", "sha512:00"] {
            let mut odd = image();
            odd["layers"][0]["digest"] = digest.into();
            refused(IMAGE, &odd, "no sha256 digest");
        }
        assert!(verified(Some("sha256:0"), b"x").unwrap_err().to_string().contains("expected sha256:0"));
    }

    #[test]
    fn input_37_an_index_without_this_platform_has_no_image() {
        let index = json!({"schemaVersion": 2, "manifests": [
            of(json!({"os": "windows", "architecture": ARCHITECTURE}), "a"),
            of(json!({"os": "unknown", "architecture": "unknown"}), "b"),
        ]});
        let Document::Index(manifests) = read("d", INDEX, index.to_string().as_bytes()).unwrap() else { panic!() };
        let why = choose("sha256:d", &manifests).unwrap_err().to_string();
        assert_eq!(why, format!("no match for platform linux/{ARCHITECTURE} in manifest sha256:d: not found"));
    }

    #[test]
    fn the_plainest_variant_is_chosen() {
        let own = |variant: &str| json!({"os": "linux", "architecture": ARCHITECTURE, "variant": variant});
        let index = json!({"schemaVersion": 2, "manifests": [
            of(own("v3"), "a"), of(own(""), "b"), of(json!({"os": "linux", "architecture": "s390x"}), "c"),
        ]});
        let Document::Index(manifests) = read("d", INDEX, index.to_string().as_bytes()).unwrap() else { panic!() };
        assert_eq!(choose("d", &manifests).unwrap().digest, format!("sha256:{}", "b".repeat(64)));
    }
}
