use prost::Message;

use super::*;

/// Wire bytes were written down from the interface file by hand: tag, then length or value.
#[test]
fn fields_have_the_interface_numbers() {
    let spec = ImageSpec { image: "a".into(), image_ref: "b".into(), ..Default::default() };
    assert_eq!(spec.encode_to_vec(), [0x0a, 1, b'a', 0xa2, 0x01, 1, b'b']);

    let context = LinuxContainerSecurityContext {
        run_as_group: Some(Int64Value { value: 5 }),
        supplemental_groups: vec![7],
        supplemental_groups_policy: SupplementalGroupsPolicy::Strict as i32,
        ..Default::default()
    };
    assert_eq!(context.encode_to_vec(), [0x42, 1, 7, 0x62, 2, 0x08, 5, 0x88, 0x01, 1]);
}

#[test]
fn windows_fields_are_skipped() {
    // Field 3 is Windows's resources.
    let request = UpdateContainerResourcesRequest::decode(&[0x0a, 1, b'c', 0x1a, 2, 0x08, 1][..]).unwrap();
    assert_eq!(request.container_id, "c");
}

#[test]
fn signals_are_read_as_images_spell_them() {
    let check = |text: &str, number| assert_eq!(Signal::parse(text).and_then(Signal::number), number, "{text}");
    check("SIGTERM", Some(15));
    check("quit", Some(3));
    check("9", Some(9));
    check("SIGRTMIN+3", Some(37));
    check("RTMAX-1", Some(63));
    check("SIGNOPE", None);
    check("0", None);
    assert_eq!(Signal::try_from(23).unwrap().name(), "SIGTERM");
}

#[test]
fn credentials_do_not_show() {
    let auth = AuthConfig { username: "u".into(), password: "hidden".into(), ..Default::default() };
    let text = format!("{:?}", PullImageRequest { auth: Some(auth), ..Default::default() });
    assert!(!text.contains("hidden"), "{text}");
}

#[test]
fn traits_are_object_safe() {
    fn takes(_: Option<&dyn RuntimeService>, _: Option<&dyn ImageService>) {}
    takes(None, None);
}
