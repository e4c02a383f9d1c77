//! Events of a runtime that tells none: everything is listed once a second and compared with the second before
//! (upstream: the kubelet's generic PLEG).
//!
//! containerd tells events since 1.7, and CRI-O only where it is asked to; a runtime that does not know the method, or
//! tells that it is switched off, is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use api::cri::*;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::time::{Instant, sleep_until, timeout};

use super::Remote;

/// The runtime tells nothing, so there is no event that this could back up: it is the one thing that is polled.
const PERIOD: Duration = Duration::from_secs(1);
/// A runtime that will not tell says so at once; one that will is quiet until there is something.
const REFUSAL: Duration = Duration::from_millis(500);

type Events = BoxStream<'static, Result<ContainerEventResponse>>;

/// The runtime's own events, else those that looking makes. Go's servers answer nothing before the first event.
pub(super) async fn unless_told(remote: Remote, mut told: Events) -> Result<Events> {
    match timeout(REFUSAL, told.next()).await {
        // Nothing yet: it listens.
        Err(_) => Ok(told),
        Ok(Some(Err(why))) if why.code == Code::Unimplemented => looked_at(remote).await,
        Ok(Some(Err(why))) => Err(why),
        Ok(Some(first)) => Ok(stream::once(async { first }).chain(told).boxed()),
        // Ended without a word, as where events are switched off.
        Ok(None) => looked_at(remote).await,
    }
}

async fn looked_at(remote: Remote) -> Result<Events> {
    let seen = look(&remote).await?;
    tracing::info!(socket = %remote.socket().display(), "the container runtime tells no events: it is looked at once a second");
    let begun = State { remote, seen, waiting: Vec::new(), next: Instant::now() + PERIOD };
    Ok(stream::unfold(Some(begun), |state| async move {
        let mut state = state?;
        loop {
            if let Some(event) = state.waiting.pop() {
                return Some((Ok(event), Some(state)));
            }
            sleep_until(state.next).await;
            let now = match look(&state.remote).await {
                Ok(now) => now,
                // What happens meanwhile is lost: whoever listens looks for itself, and subscribes again.
                Err(why) => return Some((Err(why), None)),
            };
            state.waiting = compare(&state.seen, &now);
            state.waiting.reverse();
            state.seen = now;
            state.next = Instant::now() + PERIOD;
        }
    })
    .boxed())
}

struct State {
    remote: Remote,
    seen: Seen,
    /// The next one last.
    waiting: Vec<ContainerEventResponse>,
    next: Instant,
}

/// What one look found, by id: sandboxes count as containers, as upstream has it.
type Seen = BTreeMap<String, Found>;

#[derive(Clone, Debug, PartialEq)]
struct Found {
    state: Lives,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lives {
    Created,
    Running,
    Ended,
    Unknown,
}

async fn look(remote: &Remote) -> Result<Seen> {
    let sandboxes = remote.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items.into_iter();
    let sandboxes = sandboxes.map(|it| {
        let state = if it.state() == PodSandboxState::Ready { Lives::Running } else { Lives::Ended };
        (it.id, Found { state, labels: it.labels })
    });
    let containers = remote.list_containers(ListContainersRequest::default()).await?.containers.into_iter();
    let containers = containers.map(|it| {
        let state = match it.state() {
            ContainerState::Created => Lives::Created,
            ContainerState::Running => Lives::Running,
            ContainerState::Exited => Lives::Ended,
            ContainerState::Unknown => Lives::Unknown,
        };
        (it.id, Found { state, labels: it.labels })
    });
    Ok(sandboxes.chain(containers).collect())
}

/// What must have happened between two looks. Pure.
fn compare(before: &Seen, now: &Seen) -> Vec<ContainerEventResponse> {
    let gone = before.iter().filter(|(id, _)| !now.contains_key(*id));
    let mut events = Vec::new();
    for (id, found) in gone {
        // Of one that was not seen to end, the end is told as well.
        if found.state != Lives::Ended {
            events.push(event(id, found, ContainerEventType::Stopped));
        }
        events.push(event(id, found, ContainerEventType::Deleted));
    }
    for (id, found) in now {
        let kind = match (before.get(id).map(|it| it.state), found.state) {
            (Some(before), state) if before == state => continue,
            (_, Lives::Created) => ContainerEventType::Created,
            (_, Lives::Running) => ContainerEventType::Started,
            // That its state cannot be told is a change that is worth a look.
            (_, Lives::Ended | Lives::Unknown) => ContainerEventType::Stopped,
        };
        events.push(event(id, found, kind));
    }
    events
}

/// The labels say which pod it is about; whoever wants to know more asks.
fn event(id: &str, found: &Found, kind: ContainerEventType) -> ContainerEventResponse {
    let status = PodSandboxStatus { labels: found.labels.clone(), ..PodSandboxStatus::default() };
    ContainerEventResponse {
        container_id: id.to_owned(),
        container_event_type: kind as i32,
        pod_sandbox_status: Some(status),
        ..ContainerEventResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_what_differs() {
        use ContainerEventType::{Created, Deleted, Started, Stopped};
        use Lives::{Ended, Running, Unknown};
        let check = |before: Option<Lives>, now: Option<Lives>, expected: &[ContainerEventType]| {
            let labels = BTreeMap::from([("pod".to_owned(), "p".to_owned())]);
            let seen = |state: Option<Lives>| {
                state.map(|state| ("c".to_owned(), Found { state, labels: labels.clone() })).into_iter().collect()
            };
            let events = compare(&seen(before), &seen(now));
            let kinds: Vec<_> = events.iter().map(ContainerEventResponse::container_event_type).collect();
            assert_eq!(kinds, expected, "{before:?} to {now:?}");
            assert!(events.iter().all(|it| it.pod_sandbox_status.as_ref().unwrap().labels == labels));
        };
        check(None, None, &[]);
        check(None, Some(Lives::Created), &[Created]);
        check(Some(Lives::Created), Some(Running), &[Started]);
        check(None, Some(Running), &[Started]);
        check(Some(Running), Some(Running), &[]);
        check(Some(Running), Some(Ended), &[Stopped]);
        check(None, Some(Ended), &[Stopped]);
        check(Some(Running), None, &[Stopped, Deleted]);
        check(Some(Ended), None, &[Deleted]);
        check(Some(Running), Some(Unknown), &[Stopped]);
    }
}
