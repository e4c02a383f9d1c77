//! `/debug/api_priority_and_fairness/dump_*`: what there is, as tables.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::level::Level;
use super::plan::Plan;

const LEVELS: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: [&str; 6] =
    ["PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR"];
const REQUESTS: [&str; 7] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "WaitedSeconds",
    "InitialSeats",
    "FinalSeats",
];

/// The table of a name; `None` if there is no such table. Requests are those that wait.
pub(super) fn table(plan: &Plan, what: &str) -> Option<String> {
    let levels = plan.levels.values().map(|(level, _)| level.as_ref());
    let (head, rows): (&[&str], Vec<Vec<String>>) = match what {
        "dump_priority_levels" => (&LEVELS, levels.map(of_level).collect()),
        "dump_queues" => (&QUEUES, levels.flat_map(of_queues).collect()),
        "dump_requests" => (&REQUESTS, levels.flat_map(of_requests).collect()),
        _ => return None,
    };
    let head: Vec<String> = head.iter().map(|&it| it.to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(&rows).collect();
    let mut out = String::new();
    for row in &all {
        for (at, cell) in row.iter().enumerate() {
            let last = at + 1 == row.len();
            let width = all.iter().map(|row| row[at].len() + 2).max().unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = if last { writeln!(out, "{cell}") } else { write!(out, "{:<width$}", format!("{cell},")) };
        }
    }
    Some(out)
}

fn of_level(level: &Level) -> Vec<String> {
    let (waiting, seats) = level.load();
    let active = level.queues(|queues, _| queues.all().iter().filter(|queue| !queue.waiting.is_empty()).count());
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed).to_string();
    vec![
        level.name.clone(),
        active.to_string(),
        (waiting == 0 && seats == 0).to_string(),
        "false".to_owned(),
        waiting.to_string(),
        seats.to_string(),
        count(&level.dispatched),
        count(&level.rejected),
        count(&level.timed_out),
        count(&level.cancelled),
    ]
}

fn of_queues(level: &Level) -> Vec<Vec<String>> {
    let row = |(at, queue): (usize, &super::queues::Queue)| {
        let numbers = [at, queue.waiting.len(), queue.executing as usize, queue.seats as usize];
        let numbers = numbers.iter().map(ToString::to_string);
        std::iter::once(level.name.clone()).chain(numbers).chain([format!("{:.8}ss", queue.next)]).collect()
    };
    level.queues(|queues, _| queues.all().iter().enumerate().map(row).collect())
}

fn of_requests(level: &Level) -> Vec<Vec<String>> {
    level.queues(|queues, now| {
        let waiters =
            queues.all().iter().enumerate().flat_map(|(at, queue)| {
                queue.waiting.iter().enumerate().map(move |(place, waiter)| (at, place, waiter))
            });
        waiters
            .map(|(queue, place, waiter)| {
                vec![
                    level.name.clone(),
                    waiter.schema.clone(),
                    queue.to_string(),
                    place.to_string(),
                    format!("{:.6}", now - waiter.arrived),
                    waiter.work.seats_first.to_string(),
                    waiter.work.seats_after.to_string(),
                ]
            })
            .collect()
    })
}
