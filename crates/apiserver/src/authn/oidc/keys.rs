//! The keys that an issuer publishes (RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;

use super::jwt::{ALGORITHMS, Algorithm, Token};

#[derive(Default)]
pub(super) struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    /// For which algorithm alone it is.
    algorithm: Option<String>,
    material: Material,
}

enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// A point, uncompressed.
    Curve {
        name: String,
        point: Vec<u8>,
    },
}

impl Keys {
    /// Those of a JWK set that are for signatures and of a kind that is known.
    pub(super) fn read(set: &Value) -> Self {
        Self(set["keys"].as_array().into_iter().flatten().filter_map(Key::read).collect())
    }

    /// Whether one of them signed a token.
    pub(super) fn verify(&self, token: &Token<'_>) -> bool {
        let Some((_, algorithm)) = ALGORITHMS.iter().find(|(name, _)| *name == token.algorithm()) else { return false };
        let meant = |key: &&Key| {
            let named = token.key().is_none_or(|id| key.id.as_deref() == Some(id));
            named && key.algorithm.as_deref().is_none_or(|name| name == token.algorithm())
        };
        self.0.iter().filter(meant).any(|key| key.verify(*algorithm, token))
    }
}

impl Key {
    fn read(key: &Value) -> Option<Self> {
        let text = |field: &str| key[field].as_str().map(str::to_owned);
        let number = |field: &str| URL_SAFE_NO_PAD.decode(key[field].as_str()?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|of| of != "sig") {
            return None;
        }
        let material = match key["kty"].as_str()? {
            "RSA" => Material::Rsa { modulus: number("n")?, exponent: number("e")? },
            "EC" => {
                let point = [vec![4], number("x")?, number("y")?].concat();
                Material::Curve { name: text("crv")?, point }
            }
            _ => return None,
        };
        Some(Self { id: text("kid"), algorithm: text("alg"), material })
    }

    fn verify(&self, algorithm: Algorithm, token: &Token<'_>) -> bool {
        match (&self.material, algorithm) {
            (Material::Rsa { modulus, exponent }, Algorithm::Rsa(parameters)) => {
                let key = RsaPublicKeyComponents { n: modulus.as_slice(), e: exponent.as_slice() };
                key.verify(parameters, token.signed, &token.signature).is_ok()
            }
            (Material::Curve { name, point }, Algorithm::Curve(algorithm, curve)) => {
                name == curve && UnparsedPublicKey::new(algorithm, point).verify(token.signed, &token.signature).is_ok()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_signature_is_of_the_key_that_it_names() {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let set = |id: &str, of: &str| {
            Keys::read(&json!({"keys": [
                {"kty": "oct", "k": "AAAA"},
                {"kty": "EC", "crv": "P-256", "kid": id, "use": of, "x": part(&point[1..33]), "y": part(&point[33..])},
            ]}))
        };
        let sign = |header: Value| {
            let signed = format!("{}.{}", part(header.to_string().as_bytes()), part(b"{\"sub\":\"bob\"}"));
            let signature = pair.sign(&random, signed.as_bytes()).unwrap();
            format!("{signed}.{}", part(signature.as_ref()))
        };
        let check = |keys: &Keys, text: &str, expected: bool| {
            assert_eq!(keys.verify(&Token::parse(text).unwrap()), expected, "{text}");
        };
        let text = sign(json!({"alg": "ES256", "kid": "one"}));
        check(&set("one", "sig"), &text, true);
        check(&set("two", "sig"), &text, false);
        check(&set("one", "enc"), &text, false);
        check(&set("one", "sig"), &sign(json!({"alg": "ES256"})), true);
        check(&set("one", "sig"), &sign(json!({"alg": "none"})), false);
        check(&set("one", "sig"), &sign(json!({"alg": "RS256"})), false);
        let forged = text.replacen(&part(b"{\"sub\":\"bob\"}"), &part(b"{\"sub\":\"eve\"}"), 1);
        check(&set("one", "sig"), &forged, false);
        assert!(Token::parse("a.b").is_none());
    }
}
