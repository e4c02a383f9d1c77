//! The ways in which values are sealed, with upstream's marks: `k8s:enc:aesgcm:v1:NAME:`
//! (`k8s.io/apiserver/pkg/storage/value/encrypt`).

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut as _, BlockEncryptMut as _, KeyIvInit as _};
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// With which everything begins that is sealed by a provider.
pub(super) const MARK: &[u8] = b"k8s:enc:";
const BLOCK: usize = 16;
const BOX_NONCE: usize = 24;

/// A key of a provider, with the name by which sealed values tell it.
pub(super) struct Key {
    pub(super) name: String,
    pub(super) material: Material,
}

pub(super) enum Material {
    /// Bound to where the value stands.
    Gcm(Box<LessSafeKey>),
    /// 16, 24 or 32 bytes. It does not tell whether a value was changed.
    Cbc(Vec<u8>),
    Secretbox(Box<XSalsa20Poly1305>),
}

/// One entry of a list of providers.
pub(super) enum Provider {
    /// Values are as they are.
    Identity,
    /// The first key seals, all open.
    Keys { mark: &'static str, keys: Vec<Key> },
}

/// A value, and whether the key that seals now has sealed it.
pub(super) struct Opened<T = Vec<u8>> {
    pub(super) plain: T,
    pub(super) by_first: bool,
}

impl Material {
    /// `None` for a key of a length that there is not.
    pub(super) fn gcm(secret: &[u8]) -> Option<Self> {
        let algorithm = if secret.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, secret).ok()?;
        Some(Self::Gcm(Box::new(LessSafeKey::new(key))))
    }

    pub(super) fn cbc(secret: &[u8]) -> Option<Self> {
        matches!(secret.len(), 16 | 24 | 32).then(|| Self::Cbc(secret.to_vec()))
    }

    pub(super) fn secretbox(secret: &[u8]) -> Option<Self> {
        XSalsa20Poly1305::new_from_slice(secret).ok().map(|key| Self::Secretbox(Box::new(key)))
    }

    fn seal(&self, key: &str, plain: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Gcm(material) => {
                let nonce: [u8; NONCE_LEN] = random()?;
                let mut body = plain.to_vec();
                material
                    .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key), &mut body)
                    .ok()?;
                Some([nonce.as_slice(), &body].concat())
            }
            Self::Cbc(secret) => {
                let iv: [u8; BLOCK] = random()?;
                let body = match secret.len() {
                    16 => cbc::Encryptor::<Aes128>::new_from_slices(secret, &iv)
                        .ok()?
                        .encrypt_padded_vec_mut::<Pkcs7>(plain),
                    24 => cbc::Encryptor::<Aes192>::new_from_slices(secret, &iv)
                        .ok()?
                        .encrypt_padded_vec_mut::<Pkcs7>(plain),
                    _ => cbc::Encryptor::<Aes256>::new_from_slices(secret, &iv)
                        .ok()?
                        .encrypt_padded_vec_mut::<Pkcs7>(plain),
                };
                Some([iv.as_slice(), &body].concat())
            }
            Self::Secretbox(material) => {
                let nonce: [u8; BOX_NONCE] = random()?;
                let body = material.encrypt(&nonce.into(), plain).ok()?;
                Some([nonce.as_slice(), &body].concat())
            }
        }
    }

    fn open(&self, key: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Gcm(material) => {
                let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
                let mut body = body.to_vec();
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                material.open_in_place(nonce, Aad::from(key), &mut body).ok().map(|plain| plain.to_vec())
            }
            Self::Cbc(secret) => {
                let (iv, body) = sealed.split_at_checked(BLOCK)?;
                let plain = match secret.len() {
                    16 => cbc::Decryptor::<Aes128>::new_from_slices(secret, iv)
                        .ok()?
                        .decrypt_padded_vec_mut::<Pkcs7>(body),
                    24 => cbc::Decryptor::<Aes192>::new_from_slices(secret, iv)
                        .ok()?
                        .decrypt_padded_vec_mut::<Pkcs7>(body),
                    _ => cbc::Decryptor::<Aes256>::new_from_slices(secret, iv)
                        .ok()?
                        .decrypt_padded_vec_mut::<Pkcs7>(body),
                };
                plain.ok()
            }
            Self::Secretbox(material) => {
                let (nonce, body) = sealed.split_at_checked(BOX_NONCE)?;
                let nonce: [u8; BOX_NONCE] = nonce.try_into().ok()?;
                material.decrypt(&nonce.into(), body).ok()
            }
        }
    }
}

impl Provider {
    /// What is stored for `plain`; `None` where there is no random number to be had.
    pub(super) fn seal(&self, key: &str, plain: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Identity => Some(plain.to_vec()),
            Self::Keys { mark, keys } => {
                let first = keys.first()?;
                let head = format!("{mark}{}:", first.name);
                Some([head.as_bytes(), &first.material.seal(key, plain)?].concat())
            }
        }
    }

    /// What was stored, if this provider stored it.
    pub(super) fn open(&self, key: &str, stored: &[u8]) -> Option<Opened> {
        match self {
            Self::Identity => (!stored.starts_with(MARK)).then(|| Opened { plain: stored.to_vec(), by_first: true }),
            Self::Keys { mark, keys } => {
                let rest = stored.strip_prefix(mark.as_bytes())?;
                keys.iter().enumerate().find_map(|(at, known)| {
                    let sealed = rest.strip_prefix(known.name.as_bytes())?.strip_prefix(b":")?;
                    let plain = known.material.open(key, sealed)?;
                    Some(Opened { plain, by_first: at == 0 })
                })
            }
        }
    }
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}
