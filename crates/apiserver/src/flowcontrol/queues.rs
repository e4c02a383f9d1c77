//! Who waits for a level's seats, and who is next: shuffle sharding and fair queuing
//! (KEP-1040, "Fair Queuing for Server Requests"). No clock of its own: `now` is seconds since anything.
//!
//! Each queue has the virtual time at which its next request begins; the one whose next request would end first is
//! served. A queue pays for a request with what it is expected to take, and is given back, or charged, the difference
//! when it is known. Virtual time is seat-seconds that each active queue had since the beginning.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

use super::config::Queuing;
use super::work::Work;

/// What a request is expected to take, in seconds.
const EXPECTED: f64 = 0.003;

#[derive(Default)]
pub(super) struct Queues {
    queuing: Option<Queuing>,
    queues: Vec<Queue>,
    /// The queue that was served last.
    robin: usize,
    dealt: usize,
    /// Virtual time, and the real time at which it was that.
    virtual_time: f64,
    synced: f64,
    tickets: u64,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<Waiter>,
    pub(super) executing: u32,
    pub(super) seats: u32,
    /// When its next request begins.
    pub(super) next: f64,
}

pub(super) struct Waiter {
    pub(super) schema: String,
    pub(super) work: Work,
    pub(super) arrived: f64,
    /// In virtual time: nobody begins before he has come.
    arrived_virtually: f64,
    ticket: u64,
    wake: oneshot::Sender<()>,
}

/// Where somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) queue: usize,
    number: u64,
}

impl Queues {
    /// Queues that are too many go when they are empty.
    pub(super) fn configure(&mut self, queuing: Option<Queuing>) {
        self.queuing = queuing;
        let wanted = queuing.map_or(0, |it| it.queues);
        while self.queues.len() > wanted && self.queues.last().is_some_and(Queue::is_idle) {
            self.queues.pop();
        }
        if self.queues.len() < wanted {
            self.queues.resize_with(wanted, Queue::default);
        }
        self.robin = self.robin.min(self.queues.len().saturating_sub(1));
    }

    pub(super) fn has_queues(&self) -> bool {
        self.queuing.is_some()
    }

    pub(super) fn all(&self) -> &[Queue] {
        &self.queues
    }

    /// Lets virtual time go on to `now`, on a level of `limit` seats.
    pub(super) fn sync(&mut self, now: f64, limit: u32) {
        let active = self.queues.iter().filter(|queue| !queue.is_idle());
        let (count, wanted) = active.fold((0, 0), |(count, wanted), queue| (count + 1, wanted + queue.wanted()));
        if count > 0 {
            self.virtual_time += (now - self.synced) * f64::from(wanted.min(limit)) / f64::from(count);
        }
        self.synced = now;
    }

    /// Puts a request of a flow into the queue with least work before it among those that the flow is dealt. `None` if
    /// that is full.
    pub(super) fn enqueue(&mut self, hash: u64, work: Work, schema: &str) -> Option<(Ticket, oneshot::Receiver<()>)> {
        let queuing = self.queuing?;
        let hand = deal(hash, queuing.queues, queuing.hand_size);
        // Flows with the same hand don't all begin with the same card.
        self.dealt = self.dealt.wrapping_add(1);
        let begin = self.dealt % hand.len();
        let least = |&queue: &usize| self.queues[queue].waiting.iter().map(|it| it.work.total(EXPECTED)).sum::<f64>();
        let turned = hand[begin..].iter().chain(&hand[..begin]);
        let at = *turned.min_by(|one, other| least(one).total_cmp(&least(other)))?;
        let queue = &mut self.queues[at];
        if queue.waiting.len() >= queuing.queue_length_limit {
            return None;
        }
        if queue.is_idle() {
            queue.next = self.virtual_time;
        }
        let (wake, woken) = oneshot::channel();
        self.tickets += 1;
        let ticket = self.tickets;
        queue.waiting.push_back(Waiter {
            schema: schema.to_owned(),
            work,
            arrived: self.synced,
            arrived_virtually: self.virtual_time,
            ticket,
            wake,
        });
        queue.bound();
        Some((Ticket { queue: at, number: ticket }, woken))
    }

    /// The next request, if its seats `fit`: it is woken and out of its queue. How many seats it has.
    pub(super) fn dispatch(&mut self, fit: impl Fn(u32) -> bool) -> Option<u32> {
        let count = self.queues.len();
        let turned = (1..=count).map(|step| (self.robin + step) % count);
        let end = |&at: &usize| {
            self.queues[at].waiting.front().map(|first| self.queues[at].next + first.work.total(EXPECTED))
        };
        let busy = turned.filter(|at| !self.queues[*at].waiting.is_empty());
        let at = busy.min_by(|one, other| end(one).partial_cmp(&end(other)).unwrap_or(std::cmp::Ordering::Equal))?;
        let seats = self.queues[at].waiting.front()?.work.seats();
        if !fit(seats) {
            return None;
        }
        self.robin = at;
        let queue = &mut self.queues[at];
        let first = queue.waiting.pop_front()?;
        queue.executing += 1;
        queue.seats += seats;
        queue.next += first.work.total(EXPECTED);
        queue.bound();
        // Whoever has gone away finds out that he was served, and gives it back.
        let _ = first.wake.send(());
        Some(seats)
    }

    /// Settles the account of a request that took `actual`.
    pub(super) fn finish(&mut self, at: usize, seats: u32, work: Work, actual: Duration) {
        let Some(queue) = self.queues.get_mut(at) else { return };
        queue.executing = queue.executing.saturating_sub(1);
        queue.seats = queue.seats.saturating_sub(seats);
        queue.next -= f64::from(work.seats_first) * (EXPECTED - actual.as_secs_f64());
        queue.bound();
    }

    /// Takes somebody out who waits no longer; his work, or `None` if he was served meanwhile.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Work> {
        let queue = self.queues.get_mut(ticket.queue)?;
        let at = queue.waiting.iter().position(|waiter| waiter.ticket == ticket.number)?;
        let left = queue.waiting.remove(at)?;
        queue.bound();
        Some(left.work)
    }
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.executing == 0
    }

    fn wanted(&self) -> u32 {
        self.seats + self.waiting.iter().map(|waiter| waiter.work.seats()).sum::<u32>()
    }

    /// A queue that asks for less than its part gathers no claim on the past.
    fn bound(&mut self) {
        if let Some(first) = self.waiting.front() {
            self.next = self.next.max(first.arrived_virtually);
        }
    }
}

/// The queues of a flow: `hand` different ones of `queues`, each hand as likely as any other.
fn deal(hash: u64, queues: usize, hand: usize) -> Vec<usize> {
    let mut rest = hash;
    let mut cards: Vec<usize> = Vec::with_capacity(hand);
    for dealt in 0..hand {
        let left = (queues - dealt) as u64;
        // Among those that are left; then among all.
        let mut card = (rest % left) as usize;
        rest /= left;
        let mut taken = cards.clone();
        taken.sort_unstable();
        for before in taken {
            if card >= before {
                card += 1;
            }
        }
        cards.push(card);
    }
    cards
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn queues(count: usize, hand_size: usize, queue_length_limit: usize) -> Queues {
        let mut queues = Queues::default();
        queues.configure(Some(Queuing { queues: count, hand_size, queue_length_limit }));
        queues
    }

    #[test]
    fn hands_are_of_different_cards_and_differ() {
        let hands: BTreeSet<Vec<usize>> =
            (0..1000u64).map(|at| deal(at.wrapping_mul(0x9E37_79B9_7F4A_7C15), 8, 3)).collect();
        assert!(hands.len() > 300, "of 336: {}", hands.len());
        for hand in &hands {
            assert_eq!(hand.iter().collect::<BTreeSet<_>>().len(), 3, "{hand:?}");
            assert!(hand.iter().all(|card| *card < 8));
        }
        assert_eq!(deal(7, 4, 4).into_iter().collect::<BTreeSet<_>>().len(), 4);
    }

    #[test]
    fn a_flow_of_many_does_not_hold_up_one_of_few() {
        let mut queues = queues(2, 1, 50);
        let mut order = Vec::new();
        let mut woken: Vec<(&str, oneshot::Receiver<()>)> = Vec::new();
        for at in 0..6 {
            woken.push(("many", queues.enqueue(0, Work::one(), "many").unwrap().1));
            if at == 5 {
                woken.push(("few", queues.enqueue(1, Work::one(), "few").unwrap().1));
            }
        }
        while queues.dispatch(|_| true).is_some() {
            woken.retain_mut(|(flow, wake)| match wake.try_recv() {
                Ok(()) => {
                    order.push(*flow);
                    false
                }
                Err(_) => true,
            });
        }
        let few = order.iter().position(|flow| *flow == "few").unwrap();
        assert!(few <= 1, "{order:?}");
        assert_eq!(order.len(), 7);
    }

    #[test]
    fn a_full_queue_takes_nobody_and_who_leaves_makes_room() {
        let mut queues = queues(1, 1, 2);
        let (first, _wake) = queues.enqueue(0, Work::one(), "a").unwrap();
        let (second, _other) = queues.enqueue(0, Work::one(), "a").unwrap();
        assert!(queues.enqueue(0, Work::one(), "a").is_none());
        assert_eq!(queues.leave(first), Some(Work::one()));
        assert_eq!(queues.leave(first), None);
        assert!(queues.enqueue(0, Work::one(), "a").is_some());
        assert_eq!(queues.dispatch(|_| true), Some(1));
        assert_eq!(queues.leave(second), None, "was served");
        assert_eq!(queues.dispatch(|_| false), None);
    }

    #[test]
    fn queues_that_are_too_many_go_when_they_are_idle() {
        let mut queues = queues(4, 1, 5);
        let (ticket, _wake) = queues.enqueue(3, Work::one(), "a").unwrap();
        queues.configure(Some(Queuing { queues: 1, hand_size: 1, queue_length_limit: 5 }));
        assert_eq!(queues.all().len(), ticket.queue + 1);
        queues.dispatch(|_| true);
        queues.finish(ticket.queue, 1, Work::one(), Duration::ZERO);
        queues.configure(Some(Queuing { queues: 1, hand_size: 1, queue_length_limit: 5 }));
        assert_eq!(queues.all().len(), 1);
    }
}
