//! What tests of this crate share: private network namespaces, and whether we may make them.

use std::os::fd::{AsFd, OwnedFd};

/// Whether tests may make namespaces; says loudly when not, and fails where that was required.
pub(crate) fn root() -> bool {
    if rustix::process::geteuid().is_root() && linux::netns::create().is_ok() {
        return true;
    }
    #[expect(clippy::disallowed_methods, reason = "the one variable by which a skip becomes a failure")]
    let required = std::env::var("K3RS_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word == "root"), "root was required, but namespaces can't be made");
    eprintln!("SKIPPED: this test needs root to make network namespaces");
    false
}

/// A network namespace that lives as long as this.
pub(crate) struct Namespace(pub(crate) OwnedFd);

impl Namespace {
    pub(crate) fn new() -> Self {
        Self(linux::netns::create().unwrap())
    }

    /// Runs `work` inside; a failed assertion there fails the test.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        linux::netns::enter(self.0.as_fd(), work).unwrap()
    }
}
