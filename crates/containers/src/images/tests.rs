//! What goes with an image that is removed, and what stays because others need it.

use std::fs::File;

use serde_json::json;

use super::layers::tests::root;
use super::*;

/// Imports an image of one file, whose configuration has something of its own.
fn import(images: &Images, at: &Path, name: &str, content: &[u8]) -> Image {
    let mut image = fixtures::Image::new(json!({"Env": [format!("NAME={name}")]}));
    image.file("file", content, 0o644).unwrap();
    let archive = at.join("archive.tar");
    image.write(name, &archive).unwrap();
    images.import(File::open(archive).unwrap()).unwrap().remove(0)
}

fn layers(root: &Path) -> usize {
    entries(&root.join("layers")).unwrap().len()
}

#[test]
fn a_layer_goes_with_the_last_image_of_any_node_that_has_it() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let store = at.join("store");
    let one = Images::open(&store, &at.join("one"), "one").unwrap();
    let other = Images::open(&store, &at.join("other"), "other").unwrap();
    let first = import(&one, at, "first:1", b"shared");
    let second = import(&one, at, "second:1", b"shared");
    import(&one, at, "third:1", b"its own");
    assert_ne!(first.id, second.id);
    assert_eq!(layers(&store), 2, "images of the same file share its layer");
    one.remove("third:1").unwrap();
    assert_eq!(layers(&store), 1);
    one.remove("first:1").unwrap();
    assert_eq!(layers(&store), 1, "the second image has it");
    assert!(one.layers(&second)[0].join("file").exists());
    import(&other, at, "second:1", b"shared");
    one.remove("second:1").unwrap();
    assert_eq!((layers(&store), one.list().len()), (1, 0), "another node has it");
    other.remove("second:1").unwrap();
    assert_eq!(layers(&store), 0);
}
