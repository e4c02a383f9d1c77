//! The one writer: a thread that turns queued writes into commits, many at a time.
//!
//! It drains its queue, checks each precondition against the state that includes the earlier members of the
//! batch, mints revisions, commits once, publishes, and then acknowledges. A commit that fails fails all its
//! members, whose revisions are minted again by the next: nobody has seen them. Between batches it keeps the
//! file in shape (see `upkeep`).

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::health::{Guard, Health};
use super::open::Lock;
use super::rows::Version;
use super::schema::Meta;
use super::upkeep::Upkeep;
use crate::failpoint::{Failpoints, Point};
use crate::hub::Hub;
use crate::{Change, Error, Event, Expect, Revision, Write, Written};

/// Members of one commit; larger batches gain nothing.
const BATCH: usize = 64;

/// What the writer is asked for.
pub(super) enum Job {
    Write { write: Write, done: oneshot::Sender<Result<Written, Error>> },
    Compact { before: Revision, done: oneshot::Sender<Result<(), Error>> },
}

/// A member's answer, kept back until the commit has succeeded.
enum Answer {
    Written(Result<Written, Error>),
    Compacted(Result<(), Error>),
}

/// The state of the store inside a transaction, and what the transaction has made so far.
struct Batch {
    newest: Revision,
    compacted: Revision,
    answers: Vec<Answer>,
    events: Vec<Event>,
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) hub: Arc<Hub>,
    /// The newest revision that is committed.
    pub(super) newest: Revision,
    pub(super) upkeep: Upkeep,
    pub(super) health: Health,
    pub(super) guard: Guard,
    pub(super) failpoints: Failpoints,
    /// Declared last, so that it is released last.
    pub(super) _lock: Lock,
}

impl Writer {
    /// Serves the queue until all its senders are gone, then closes the file.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>, closed: oneshot::Sender<Result<(), Error>>) {
        // What the last process left undone.
        self.maintain(&jobs);
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            self.commit(batch);
            self.maintain(&jobs);
        }
        let result = self.close();
        drop(self);
        // Nobody waits when the store was dropped instead of closed.
        drop(closed.send(result));
    }

    /// Commits, publishes and answers a batch.
    fn commit(&mut self, jobs: Vec<Job>) {
        let jobs = self.admit(jobs);
        if jobs.is_empty() {
            return;
        }
        match self.transact(&jobs) {
            Ok(batch) => {
                self.newest = batch.newest;
                self.upkeep.compacted = batch.compacted;
                let bytes = batch.events.iter().filter_map(|event| event.value.as_ref()).map(Bytes::len).sum();
                self.upkeep.written(batch.answers.len(), bytes);
                self.hub.publish(batch.events, batch.compacted);
                if let Err(error) = self.failpoints.hit(Point::BeforeAck) {
                    tracing::error!(%error, "a failpoint cannot fail what is committed");
                }
                for (job, answer) in jobs.into_iter().zip(batch.answers) {
                    job.answer(answer);
                }
            }
            Err(error) => {
                let reason = self.failed(&error);
                refuse(jobs, &reason);
            }
        }
    }

    /// The jobs that may be tried; the others are answered.
    fn admit(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        let (jobs, refused, reason) = match self.check_health() {
            Health::Good => return jobs,
            Health::Full(reason) => {
                let (jobs, refused) = jobs.into_iter().partition(Job::frees_space);
                (jobs, refused, reason)
            }
            Health::Broken(reason) => (Vec::new(), jobs, reason),
        };
        refuse(refused, &reason);
        jobs
    }

    fn transact(&mut self, jobs: &[Job]) -> rusqlite::Result<Batch> {
        self.failpoints.hit(Point::Begin)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut batch = Batch {
            newest: self.newest,
            compacted: self.upkeep.compacted,
            answers: Vec::with_capacity(jobs.len()),
            events: Vec::with_capacity(jobs.len()),
        };
        for job in jobs {
            let answer = match job {
                Job::Write { write, .. } => Answer::Written(batch.write(&transaction, write)?),
                Job::Compact { before, .. } => Answer::Compacted(batch.compact(&transaction, *before)?),
            };
            batch.answers.push(answer);
            self.failpoints.hit(Point::AfterWrite)?;
        }
        self.failpoints.hit(Point::BeforeCommit)?;
        transaction.commit()?;
        Ok(batch)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Also when it panicked: nobody waits for what will not be published any more.
        self.hub.close();
    }
}

impl Batch {
    /// The outer error fails the batch, the inner one only this member.
    fn write(&mut self, transaction: &Transaction<'_>, write: &Write) -> rusqlite::Result<Result<Written, Error>> {
        let previous = match Version::standing(transaction, &write.key) {
            Ok(previous) => previous,
            Err(error) => return Ok(Err(error)),
        };
        let value = match &write.change {
            Change::Put(value) => Some(value.clone()),
            Change::Delete => None,
        };
        let held = match write.expect {
            Expect::Anything => true,
            Expect::Absent => previous.is_none(),
            Expect::Revision(revision) => previous.is_some_and(|standing| standing.revision == revision),
        };
        if !held || (value.is_none() && previous.is_none()) {
            let current = Version::live(transaction, &write.key);
            return Ok(Err(current.map_or_else(|error| error, |current| Error::Precondition { current })));
        }
        let revision = Revision(self.newest.0 + 1);
        let version = Version {
            revision,
            key: write.key.clone(),
            created: previous.map_or(revision, |standing| standing.created),
            previous: previous.map(|standing| standing.revision),
            value,
        };
        version.insert(transaction)?;
        self.newest = revision;
        self.events.push(version.into_event());
        Ok(Ok(Written { revision }))
    }

    /// Forgetting takes effect with the commit; the space is given back afterwards, step by step.
    fn compact(&mut self, transaction: &Transaction<'_>, before: Revision) -> rusqlite::Result<Result<(), Error>> {
        if before > self.newest {
            return Ok(Err(Error::Future { asked: before, current: self.newest }));
        }
        if before > self.compacted {
            Meta::Compacted.set(transaction, before.0)?;
            self.compacted = before;
        }
        Ok(Ok(()))
    }
}

impl Job {
    /// Whether the job makes the database smaller in the end.
    fn frees_space(&self) -> bool {
        match self {
            Job::Write { write, .. } => matches!(write.change, Change::Delete),
            Job::Compact { .. } => true,
        }
    }

    fn answer(self, answer: Answer) {
        // Who has gone away needs no answer: the commit stands.
        match (self, answer) {
            (Job::Write { done, .. }, Answer::Written(result)) => drop(done.send(result)),
            (Job::Compact { done, .. }, Answer::Compacted(result)) => drop(done.send(result)),
            _ => unreachable!("each job is answered by its own kind"),
        }
    }
}

fn refuse(jobs: Vec<Job>, reason: &str) {
    for job in jobs {
        let error = Error::Unavailable(reason.to_owned());
        match job {
            Job::Write { done, .. } => drop(done.send(Err(error))),
            Job::Compact { done, .. } => drop(done.send(Err(error))),
        }
    }
}
