//! Tokens that are kept in Secrets, signed with the API server's key.

use std::fmt;
use std::sync::Arc;

use ::controllers::serviceaccounttokens::MakeToken;
use api::object::ObjectKey;
use apiserver::server::ApiServer;

/// Signs as the API server.
pub struct TokenMaker(pub Arc<ApiServer>);

/// Without what it stands for.
impl fmt::Debug for TokenMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenMaker")
    }
}

impl MakeToken for TokenMaker {
    fn make(&self, account: &ObjectKey, uid: &str, secret: &str) -> Option<String> {
        self.0.authenticator.service_accounts.issue_kept(account, uid, secret).ok()
    }
}
