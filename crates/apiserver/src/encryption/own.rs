//! What holds where nothing is configured: what the database holds of Secrets is of no use without the server's own key.
//!
//! A sealed value is a version byte, a random nonce and the ciphertext of ChaCha20-Poly1305, bound to its key, so that
//! a value moved to another key is refused.

use bytes::Bytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::cache::{ROOT, TransformError, Transformer};

/// JSON begins with a brace, so this byte tells sealed values from plain ones.
pub(super) const VERSION: u8 = 1;

/// Seals Secrets; other resources pass through.
pub struct SecretEncryption {
    key: LessSafeKey,
    prefix: String,
}

/// The key has the wrong length.
#[derive(Debug, thiserror::Error)]
#[error("the encryption key must be 32 bytes long")]
pub struct BadKey;

impl SecretEncryption {
    pub fn new(key: &[u8]) -> Result<Self, BadKey> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| BadKey)?;
        Ok(Self { key: LessSafeKey::new(key), prefix: format!("{ROOT}core/secrets/") })
    }
}

impl Transformer for SecretEncryption {
    fn seal(&self, key: &str, plain: Bytes) -> Result<Bytes, TransformError> {
        if !key.starts_with(&self.prefix) {
            return Ok(plain);
        }
        let failed = || TransformError { key: key.to_owned() };
        let mut nonce = [0u8; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| failed())?;
        let mut body = plain.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key), &mut body)
            .map_err(|_| failed())?;
        Ok(Bytes::from([&[VERSION], nonce.as_slice(), &body].concat()))
    }

    fn open(&self, key: &str, stored: Bytes) -> Result<Bytes, TransformError> {
        if stored.first() != Some(&VERSION) {
            return Ok(stored);
        }
        let failed = || TransformError { key: key.to_owned() };
        let nonce = stored.get(1..=NONCE_LEN).and_then(|nonce| Nonce::try_assume_unique_for_key(nonce).ok());
        let mut body = stored.get(1 + NONCE_LEN..).unwrap_or_default().to_vec();
        let plain =
            self.key.open_in_place(nonce.ok_or_else(failed)?, Aad::from(key), &mut body).map_err(|_| failed())?;
        Ok(Bytes::copy_from_slice(plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_unreadable_without_their_key_and_place() {
        let encryption = SecretEncryption::new(&[7; 32]).unwrap();
        let key = "/registry/core/secrets/shop/db";
        let plain = Bytes::from_static(b"{\"data\":\"canary\"}");
        let sealed = encryption.seal(key, plain.clone()).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        assert_eq!(encryption.open(key, sealed.clone()).unwrap(), plain);
        assert!(encryption.open("/registry/core/secrets/shop/other", sealed.clone()).is_err());
        assert!(SecretEncryption::new(&[8; 32]).unwrap().open(key, sealed.clone()).is_err());
        assert!(encryption.open(key, sealed.slice(..9)).is_err());
    }

    #[test]
    fn other_resources_pass_through() {
        let encryption = SecretEncryption::new(&[7; 32]).unwrap();
        let plain = Bytes::from_static(b"{}");
        let key = "/registry/core/configmaps/shop/a";
        assert_eq!(encryption.seal(key, plain.clone()).unwrap(), plain);
        assert_eq!(encryption.open(key, plain.clone()).unwrap(), plain);
    }
}
