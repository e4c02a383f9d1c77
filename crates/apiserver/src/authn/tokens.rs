//! Tokens that are known beforehand, such as those of a server's own components and of joining nodes.

use std::collections::HashMap;

use ring::digest;

use super::User;

/// Bearer tokens and whom they stand for.
#[derive(Default)]
pub struct StaticTokens {
    /// By digest, so that looking one up takes no time that depends on how much of it is right.
    users: HashMap<[u8; 32], User>,
}

impl StaticTokens {
    pub fn new(tokens: impl IntoIterator<Item = (String, User)>) -> Self {
        Self { users: tokens.into_iter().map(|(token, user)| (hash(&token), user)).collect() }
    }

    pub fn user(&self, token: &str) -> Option<User> {
        self.users.get(&hash(token)).cloned()
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    out
}
