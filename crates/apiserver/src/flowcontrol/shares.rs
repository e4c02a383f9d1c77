//! How levels share the server's seats, and lend those that they don't use
//! (KEP-1040, "Dispatching" and "Borrowing").

use super::config::PriorityLevel;

/// How slowly the memory of what was needed fades, in each period.
const MEMORY: f64 = 0.977;
/// A level always gets some seats of what is to be shared.
const LEAST_TARGET: f64 = 0.001;

/// The seats that a level may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// By its shares alone.
    pub(super) nominal: u32,
    /// When it has lent all that it lends.
    pub(super) least: u32,
    /// When it has borrowed all that it may.
    pub(super) most: u32,
}

/// What a level needed of late, in seats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Demand {
    /// The most at once in the last period.
    pub(super) high: u32,
    /// Rises at once, fades slowly.
    pub(super) smoothed: f64,
}

/// One level that wants a part of what is there.
#[derive(Clone, Copy, Debug)]
struct Claim {
    target: f64,
    least: f64,
    most: f64,
}

impl Demand {
    /// After `periods`, in which `average` seats were needed and at most `high`.
    ///
    /// The deviation is taken to be what it is where either nothing or `high` is needed: the largest there can be.
    pub(super) fn after(self, periods: f64, average: f64, high: u32) -> Self {
        let average = average.min(f64::from(high));
        let envelope = average + (average * (f64::from(high) - average)).sqrt();
        let memory = MEMORY.powf(periods);
        Self { high, smoothed: envelope.max(memory * self.smoothed + (1.0 - memory) * envelope) }
    }
}

/// The limits of each of `levels` on a server of `capacity` seats.
pub(super) fn limits(levels: &[&PriorityLevel], capacity: u32) -> Vec<Limits> {
    let all: f64 = levels.iter().map(|level| f64::from(level.shares)).sum();
    let part = |of: u32, percent: u32| (f64::from(of) * f64::from(percent) / 100.0).round() as u32;
    let of = |level: &&PriorityLevel| {
        let nominal = match level.shares {
            0 => 0,
            shares => (f64::from(capacity) * f64::from(shares) / all).ceil() as u32,
        };
        let borrowed = level.borrowing_percent.map_or(capacity, |percent| part(nominal, percent));
        let least = nominal.saturating_sub(part(nominal, level.lendable_percent));
        Limits { nominal, least, most: nominal + borrowed }
    };
    levels.iter().map(of).collect()
}

/// What each level may have now. Exempt ones have what they take, which the others have the less.
pub(super) fn lend(levels: &[(bool, Limits, Demand)]) -> Vec<u32> {
    let all: u32 = levels.iter().map(|(_, limits, _)| limits.nominal).sum();
    let needed = |exempt: bool, limits: &Limits, demand: &Demand| match exempt {
        true => limits.least.max(demand.high),
        false => limits.least.max(limits.nominal.min(demand.high)),
    };
    let of = |wanted: bool, what: &dyn Fn(&Limits, &Demand) -> u32| -> u32 {
        levels.iter().filter(|(exempt, ..)| *exempt == wanted).map(|(_, limits, demand)| what(limits, demand)).sum()
    };
    let remaining = all.saturating_sub(of(true, &|limits, demand| needed(true, limits, demand)));
    let least = of(false, &|limits, _| limits.least);
    let wanted = of(false, &|limits, demand| needed(false, limits, demand));
    let claims: Vec<Claim> = levels
        .iter()
        .filter(|(exempt, ..)| !exempt)
        .map(|(_, limits, demand)| {
            let least = f64::from(needed(false, limits, demand));
            Claim { target: demand.smoothed.max(least), least, most: f64::from(limits.most) }
        })
        .collect();
    let mut shared = allocate(f64::from(remaining), &claims).into_iter();
    levels
        .iter()
        .map(|(exempt, limits, demand)| {
            let needed = needed(*exempt, limits, demand);
            if *exempt {
                return needed;
            }
            let share = shared.next().unwrap_or_default();
            if remaining <= least {
                limits.least
            } else if remaining <= wanted {
                let part = f64::from(remaining - least) / f64::from(wanted - least);
                limits.least + (f64::from(needed - limits.least) * part).round() as u32
            } else {
                share.round() as u32
            }
        })
        .collect()
}

/// Parts of `all` in proportion to what is aimed at, within what each must and may have.
fn allocate(all: f64, claims: &[Claim]) -> Vec<f64> {
    let at = |proportion: f64| {
        claims.iter().map(move |claim| (proportion * claim.target.max(LEAST_TARGET)).clamp(claim.least, claim.most))
    };
    // The sum grows with the proportion: it is found by halving.
    let (mut low, mut high) = (0.0, 1.0 + all / LEAST_TARGET);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if at(middle).sum::<f64>() < all { low = middle } else { high = middle }
    }
    at(high).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(shares: u32, lendable: u32, borrowing: Option<u32>) -> PriorityLevel {
        PriorityLevel {
            name: String::new(),
            uid: String::new(),
            exempt: false,
            shares,
            lendable_percent: lendable,
            borrowing_percent: borrowing,
            queuing: None,
        }
    }

    #[test]
    fn shares_become_seats() {
        let levels = [level(0, 0, None), level(30, 33, None), level(5, 0, Some(100)), level(65, 50, Some(20))];
        let limits = limits(&levels.iter().collect::<Vec<_>>(), 600);
        let seats = |nominal, least, most| Limits { nominal, least, most };
        assert_eq!(limits, [seats(0, 0, 600), seats(180, 121, 780), seats(30, 30, 60), seats(390, 195, 468)]);
    }

    #[test]
    fn idle_levels_lend_to_busy_ones() {
        let limits = Limits { nominal: 100, least: 50, most: 300 };
        let busy = Demand { high: 400, smoothed: 400.0 };
        let idle = Demand::default();
        let firm = Limits { nominal: 100, least: 100, most: 100 };
        assert_eq!(lend(&[(false, limits, busy), (false, limits, idle), (false, firm, idle)]), [150, 50, 100]);
        assert_eq!(lend(&[(false, limits, busy), (false, limits, busy)]), [100, 100]);
        // What the exempt take is not there to be shared.
        let exempt = (true, Limits::default(), Demand { high: 50, smoothed: 50.0 });
        assert_eq!(lend(&[exempt, (false, limits, busy), (false, limits, idle)]), [50, 100, 50]);
        let greedy = (true, Limits::default(), Demand { high: 500, smoothed: 500.0 });
        assert_eq!(lend(&[greedy, (false, limits, busy), (false, limits, idle)]), [500, 50, 50]);
    }

    #[test]
    fn demand_rises_at_once_and_fades() {
        let busy = Demand::default().after(1.0, 10.0, 10);
        assert_eq!((busy.high, busy.smoothed.round()), (10, 10.0));
        let later = busy.after(1.0, 0.0, 0);
        assert!(later.smoothed > 9.0 && later.smoothed < 10.0, "{later:?}");
        assert!(busy.after(1000.0, 0.0, 0).smoothed < 0.01);
    }
}
