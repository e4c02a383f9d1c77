//! How many answers of a kind in a row make a verdict. Pure.

/// The answers of one probe so far.
#[derive(Debug)]
pub(super) struct Tally {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    in_a_row: u32,
}

impl Tally {
    pub(super) fn new(success_threshold: u32, failure_threshold: u32) -> Self {
        Self { success_threshold, failure_threshold, last: None, in_a_row: 0 }
    }

    /// Counts an answer; `None` is an answer that says nothing. The verdict, once there are enough alike.
    pub(super) fn add(&mut self, answer: Option<bool>) -> Option<bool> {
        let good = answer?;
        self.in_a_row = if self.last == Some(good) { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some(good);
        let needed = if good { self.success_threshold } else { self.failure_threshold };
        (self.in_a_row >= needed).then_some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(success: u32, failure: u32, answers: &str, verdicts: &str) {
        let mut tally = Tally::new(success, failure);
        let got: String = answers
            .chars()
            .map(|answer| match answer {
                '+' => Some(true),
                '-' => Some(false),
                _ => None,
            })
            .map(|answer| match tally.add(answer) {
                Some(true) => '+',
                Some(false) => '-',
                None => '.',
            })
            .collect();
        assert_eq!(got, verdicts, "{answers} with {success}/{failure}");
    }

    #[test]
    fn a_verdict_needs_enough_answers_in_a_row() {
        check(1, 3, "+--+---", "+..+..-");
        check(2, 1, "+-++", ".-.+");
        check(1, 2, "-?-", "..-");
    }
}
