use super::*;
use crate::snapshot::Needs;

fn pod(name: &str, priority: i32, gates: &[&str]) -> Arc<PodInfo> {
    let gates = gates.iter().map(|gate| (*gate).to_owned()).collect();
    let needs = Needs { priority, gates, ..Needs::default() };
    Arc::new(PodInfo { key: ObjectKey::new("shop", name), uid: name.to_owned(), needs, ..PodInfo::default() })
}

fn pop(queue: &mut Queue, at: u64) -> Option<Attempt> {
    queue.pop(Duration::from_secs(at))
}

fn name(attempt: Option<Attempt>) -> String {
    attempt.map(|attempt| attempt.pod.key.name.clone()).unwrap_or_default()
}

#[test]
fn the_important_come_first_then_who_came_first() {
    let mut queue = Queue::default();
    for (name, priority) in [("a", 0), ("b", 0), ("urgent", 9)] {
        queue.set(pod(name, priority, &[]), Duration::ZERO);
    }
    let order: Vec<String> = (0..3).map(|_| name(pop(&mut queue, 0))).collect();
    assert_eq!(order, ["urgent", "a", "b"]);
}

#[test]
fn a_gated_pod_waits_for_its_gates() {
    let mut queue = Queue::default();
    queue.set(pod("a", 0, &["quota"]), Duration::ZERO);
    assert!(pop(&mut queue, 0).is_none());
    queue.set(pod("a", 0, &[]), Duration::ZERO);
    assert_eq!(name(pop(&mut queue, 0)), "a");
}

#[test]
fn failures_back_off_longer_each_time() {
    let mut queue = Queue::default();
    queue.set(pod("a", 0, &[]), Duration::ZERO);
    let mut now = 0;
    for pause in [1, 2, 4, 8, 10, 10] {
        let attempt = pop(&mut queue, now).unwrap();
        queue.failed(attempt, Duration::from_secs(now));
        assert!(pop(&mut queue, now + pause - 1).is_none(), "before {pause} s");
        assert_eq!(queue.next_deadline(), Some(Duration::from_secs(now + pause)));
        now += pause;
    }
}

#[test]
fn an_unschedulable_pod_wakes_for_what_helps_it() {
    let check = |event, at, wakes: bool| {
        let mut queue = Queue::default();
        queue.set(pod("a", 0, &[]), Duration::ZERO);
        let attempt = pop(&mut queue, 0).unwrap();
        queue.refused(attempt, BTreeSet::from([Plugin::NodeResourcesFit]), Duration::ZERO);
        queue.happened(event, Duration::from_secs(at));
        assert_eq!(pop(&mut queue, at).is_some(), wakes, "{event:?} after {at} s");
    };
    check(Event::PodGone, 2, true);
    check(Event::NodeAllocatable, 2, true);
    check(Event::NodeLabels, 2, false);
    check(Event::Storage, 299, false);
    // Its backoff is not over.
    check(Event::PodGone, 0, false);
    // Nothing is left for ever.
    check(Event::Storage, 300, true);
}
