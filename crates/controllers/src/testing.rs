//! Controllers run against a cluster in memory.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use client::clock::SystemClock;
use client::testing::FakeCluster;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Context, Settings};

/// Running controllers.
pub(crate) struct Harness {
    token: CancellationToken,
    tasks: JoinSet<()>,
}

impl Harness {
    pub(crate) fn start<R>(cluster: &Arc<FakeCluster>, run: fn(Context, CancellationToken) -> R) -> Self
    where
        R: Future<Output = ()> + Send + 'static,
    {
        let mut harness = Self { token: CancellationToken::new(), tasks: JoinSet::new() };
        harness.also(cluster, run);
        harness
    }

    pub(crate) fn also<R>(&mut self, cluster: &Arc<FakeCluster>, run: fn(Context, CancellationToken) -> R)
    where
        R: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(run(context(cluster), self.token.clone()));
    }

    pub(crate) async fn stop(mut self) {
        self.token.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a controller panicked");
        }
    }
}

/// What controllers get, for a cluster in memory and in real time.
pub(crate) fn context(cluster: &Arc<FakeCluster>) -> Context {
    let factory = cluster.clone();
    Context {
        clients: Arc::new(move |account| factory.client(account)),
        informers: cluster.informers(),
        clock: SystemClock::shared(),
        settings: Arc::new(Settings {
            root_ca: "CERTIFICATE".to_owned(),
            cluster_cidrs: vec!["10.42.0.0/16".parse().expect("a valid range")],
            ..Settings::default()
        }),
    }
}

/// Lets the controllers work until `condition` holds; a test that it never does fails.
pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "it did not happen within 10 s");
        let soon = tokio::time::Instant::now() + Duration::from_millis(2);
        tokio::time::sleep_until(soon).await;
    }
}
