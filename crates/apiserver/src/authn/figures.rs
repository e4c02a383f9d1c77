//! How often it was found out who asks, by upstream's names.

use std::sync::LazyLock;
use std::time::Duration;

use api::status::Status;
use client::metrics::{Family, Series};

use super::User;

const SECONDS: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

static ATTEMPTS: Family =
    Family::counter("authentication_attempts", "[ALPHA] Requests by what was found out about who asks", &["result"]);
static DURATION: Family = Family::histogram(
    "authentication_duration_seconds",
    "[ALPHA] How long it took to find out who asks",
    &["result"],
    SECONDS,
);
static USERS: Family = Family::counter(
    "authenticated_user_requests",
    "[ALPHA] Requests by who asks, of whom few are named",
    &["username"],
);

static CERTIFICATES: Family = Family::histogram(
    "apiserver_client_certificate_expiration_seconds",
    "[ALPHA] For how long the certificates are good by which clients were known",
    &[],
    &[
        0.0,
        1800.0,
        3600.0,
        7200.0,
        21_600.0,
        43_200.0,
        86_400.0,
        172_800.0,
        345_600.0,
        604_800.0,
        2_592_000.0,
        7_776_000.0,
        15_552_000.0,
        31_104_000.0,
    ],
);

pub(crate) static FAMILIES: [&Family; 4] = [&ATTEMPTS, &DURATION, &USERS, &CERTIFICATES];

/// Names that are told; others would be without number.
const NAMED: [&str; 5] = ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"];

/// The series of one result.
struct Outcome {
    attempts: Series,
    duration: Series,
}

impl Outcome {
    fn of(result: &str) -> Self {
        Self { attempts: ATTEMPTS.of(&[result]), duration: DURATION.of(&[result]) }
    }
}

static SUCCESS: LazyLock<Outcome> = LazyLock::new(|| Outcome::of("success"));
static FAILURE: LazyLock<Outcome> = LazyLock::new(|| Outcome::of("failure"));
static ERROR: LazyLock<Outcome> = LazyLock::new(|| Outcome::of("error"));
static CERTIFICATE: LazyLock<Series> = LazyLock::new(|| CERTIFICATES.of(&[]));
static OTHER_USERS: LazyLock<Series> = LazyLock::new(|| USERS.of(&["other"]));

/// Counts a client who is known by a certificate that is good for so many seconds more.
pub(super) fn certificate(seconds: i64) {
    CERTIFICATE.observe(seconds as f64);
}

/// Counts one that was found out, one who showed nothing, or one whose credentials are not good.
pub(super) fn tell(found: &Result<Option<User>, Status>, took: Duration) {
    let outcome = match found {
        Ok(Some(_)) => &SUCCESS,
        Ok(None) => &FAILURE,
        Err(_) => &ERROR,
    };
    outcome.attempts.add(1.0);
    outcome.duration.observe(took.as_secs_f64());
    if let Ok(Some(user)) = found {
        match user.name.as_str() {
            name if NAMED.contains(&name) => USERS.add(&[name], 1.0),
            name if name.contains('@') => USERS.add(&["email_id"], 1.0),
            _ => OTHER_USERS.add(1.0),
        }
    }
}
