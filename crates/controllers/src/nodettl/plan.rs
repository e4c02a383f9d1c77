//! From the number of nodes to seconds; the steps overlap, so that a node more or less does not change them all.

/// From how many nodes on, up to how many, and the seconds.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// The step of a cluster of `nodes` that was at `step`.
pub(super) fn step(mut step: usize, nodes: usize) -> usize {
    while nodes > STEPS[step].1 {
        step += 1;
    }
    while nodes < STEPS[step].0 {
        step -= 1;
    }
    step
}

pub(super) fn seconds(step: usize) -> u32 {
    STEPS[step].2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_left_late() {
        assert_eq!(step(0, 100), 0);
        assert_eq!(step(0, 101), 1);
        assert_eq!(step(1, 95), 1);
        assert_eq!(step(1, 89), 0);
        assert_eq!(step(0, 5000), 4);
        assert_eq!(seconds(step(4, 1)), 0);
    }
}
