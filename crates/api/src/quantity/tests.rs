//! Quantities against what upstream's package prints for the same text.

use super::*;
use proptest::prelude::*;

#[track_caller]
fn check(text: &str, canonical: &str) {
    let quantity: Quantity = text.parse().unwrap();
    assert_eq!(quantity.to_string(), canonical, "{text}");
    assert_eq!(canonical.parse(), Ok(quantity), "{text}");
}

#[test]
fn quantities_are_canonical_within_their_family() {
    check("0", "0");
    check("-0", "0");
    check("0.0", "0");
    check("0Ki", "0");
    check("1", "1");
    check("1000", "1k");
    check("1000m", "1");
    check("1500m", "1500m");
    check("1.5", "1500m");
    check("0.5", "500m");
    check("100m", "100m");
    check("0.1", "100m");
    check("1.500", "1.500");
    check("2500", "2500");
    check("123456", "123456");
    check("100000", "100k");
    check("1e3", "1e3");
    check("1000e0", "1e3");
    check("1.5e3", "1500");
    check("12E6", "12E6");
    check("5E", "5E");
    check("1Ki", "1Ki");
    check("1024", "1024");
    check("1024Ki", "1Mi");
    check("1500Mi", "1500Mi");
    check("1.5Gi", "1536Mi");
    check("0.5Ki", "512");
    check("0.5Mi", "512Ki");
    check("128Mi", "128Mi");
    check("1000Ki", "1000Ki");
    check("8Ei", "9223372036854775807");
    check("1Ei", "1Ei");
    check("0.00001n", "1n");
    check("1e-20", "1e-9");
    check("1.0000000001", "1000000001n");
    check("-1.5", "-1500m");
    check("-1Gi", "-1Gi");
    check("+5", "+5");
    check("3.14159265358979", "3141592654n");
    check("100000000000000000000", "100E");
    check("12345678901234567890123", "12345678901234567890123");
    check("0.0000000001Ki", "103n");
    check("999999999999999999999999Ki", "9223372036854775807");
}

#[test]
fn json_numbers_and_text_are_read() {
    let read = |value: serde_json::Value| Quantity::from_json(&value).map(|quantity| quantity.to_string());
    assert_eq!(read(serde_json::json!(" 5Gi ")).unwrap(), "5Gi");
    assert_eq!(read(serde_json::json!(0.5)).unwrap(), "500m");
    assert_eq!(read(serde_json::json!(2000)).unwrap(), "2k");
    assert_eq!(read(serde_json::json!(null)), Err(QuantityError::Format));
}

#[test]
fn bad_quantities_are_refused() {
    for text in ["", "x", "1x", "1..2", "1 ", " 1", "é", "1Ki5x"] {
        assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Format), "{text}");
    }
    for text in ["1mm", "1e", "1e+", "1K", "1Kie", "1e99999999"] {
        assert_eq!(text.parse::<Quantity>(), Err(QuantityError::Suffix), "{text}");
    }
    assert_eq!("9".repeat(60).parse::<Quantity>(), Err(QuantityError::Numeric));
}

#[test]
fn quantities_are_numbers() {
    let q = |text: &str| text.parse::<Quantity>().unwrap();
    assert_eq!(q("1Gi").add(&q("512Mi")).to_string(), "1536Mi");
    assert_eq!(q("100m").add(&q("0.9")).to_string(), "1");
    assert_eq!(q("1").sub(&q("1500m")).to_string(), "-500m");
    assert_eq!(q("0").add(&q("1Ki")).to_string(), "1Ki");
    assert_eq!(q("250m").mul(4).to_string(), "1");
    assert_eq!((q("1500m").value(), q("1500m").milli_value(), q("-1500m").value()), (2, 1500, -2));
    assert_eq!((q("1n").milli_value(), q("10Ei").value()), (1, i64::MAX));
    assert_eq!((q("2k").exact_i64(), q("1500m").exact_i64()), (Some(2000), None));
    assert!(q("1Gi") > q("1G") && q("1e3") == q("1k") && q("-1") < q("1n") && q("1e900") > q("1e899"));
    assert!(q("-1e900") < q("-1"));
    assert_eq!(q("1.500").canonical().to_string(), "1500m");
    assert_eq!(q("1e900").add(&q("1n")).to_f64(), q("1e900").to_f64());
    assert_eq!(q("1.5").to_f64(), 1.5);
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in "[-+]?[0-9]{0,45}[.]?[0-9]{0,45}([eE][-+]?[0-9]{0,11}|[numkMGTPE]|[KMGTPE]i|.{0,3})") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            let canonical = quantity.clone().canonical().to_string();
            let again: Quantity = canonical.parse().unwrap();
            prop_assert_eq!(&again, &quantity);
            prop_assert_eq!(again.canonical().to_string(), canonical);
        }
    }

    #[test]
    fn addition_is_undone_by_subtraction(a in -1_000_000i64..1_000_000, b in -1_000_000i64..1_000_000, ea in -9..6i32, eb in -9..6i32) {
        let a = Quantity::new(a.into(), ea, Format::DecimalSi);
        let b = Quantity::new(b.into(), eb, Format::DecimalSi);
        prop_assert_eq!(a.add(&b).sub(&b), a);
    }
}
