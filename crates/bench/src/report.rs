//! The table for people and the document for programs.

use serde_json::{Value, json};

use crate::figures::{Outcome, range};
use crate::rows::Gate;

const HEADER: [&str; 8] = ["ROW", "WHAT", "FIGURE", "RANGE", "GATE", "PEER", "TIMES BETTER", ""];

/// Columns padded with spaces, a row's notes below it.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let rows: Vec<[String; 8]> = outcomes.iter().map(cells).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADER[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let line = |cells: &[String; 8]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&HEADER.map(str::to_owned));
    for (outcome, row) in outcomes.iter().zip(&rows) {
        text += &line(row);
        for note in &outcome.notes {
            text += &format!("{:width$}  {note}\n", "", width = widths[0]);
        }
    }
    text
}

fn cells(outcome: &Outcome) -> [String; 8] {
    let row = outcome.row;
    let gate = match row.gate {
        Gate::AtMost(most) => format!("<= {}", number(most)),
        Gate::AtLeast(least) => format!(">= {}", number(least)),
        Gate::Times(times) => format!(">= {}x", number(times)),
        Gate::Peer => "<= peer".to_owned(),
        Gate::None => String::new(),
    };
    let peer = match (crate::figures::middle(&outcome.peer), row.recorded) {
        (Some(figure), _) => format!("{} here", number(figure)),
        (None, Some(recorded)) => format!("{} ({})", number(recorded.figure), recorded.source),
        (None, None) => String::new(),
    };
    let kept = match (outcome.kept(), outcome.figure()) {
        (Some(true), _) => "ok",
        (Some(false), _) => "OVER",
        (None, None) => "not measured",
        (None, Some(_)) => "",
    };
    [
        row.id.to_owned(),
        row.what.to_owned(),
        outcome.figure().map(|it| format!("{} {}", number(it), row.unit)).unwrap_or_default(),
        range(&outcome.ours).map(|(least, most)| format!("{}..{}", number(least), number(most))).unwrap_or_default(),
        gate,
        peer,
        outcome.ratio().map(|it| format!("{it:.1}")).unwrap_or_default(),
        kept.to_owned(),
    ]
}

/// Three digits that count.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        1000.0.. => return thousands(value),
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// All samples, so that others can judge them.
pub(crate) fn document(outcomes: &[Outcome]) -> Value {
    let gate = |gate: Gate| match gate {
        Gate::AtMost(most) => json!({"atMost": most}),
        Gate::AtLeast(least) => json!({"atLeast": least}),
        Gate::Times(times) => json!({"timesPeer": times}),
        Gate::Peer => json!({"timesPeer": 1.0}),
        Gate::None => Value::Null,
    };
    let rows = outcomes.iter().map(|it| {
        json!({
            "row": it.row.id,
            "what": it.row.what,
            "unit": it.row.unit,
            "figure": it.figure(),
            "samples": it.ours,
            "gate": gate(it.row.gate),
            "kept": it.kept(),
            "peer": {
                "figure": it.peer_figure(),
                "samples": it.peer,
                "recorded": it.row.recorded.map(|it| json!({"figure": it.figure, "source": it.source})),
            },
            "timesBetter": it.ratio(),
            "notes": it.notes,
        })
    });
    json!({"rows": rows.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_table_says_whether_gates_are_kept() {
        let outcomes = [
            Outcome::new("pod", vec![24.0, 45.25, 31.0]).note("the image is 1 MB"),
            Outcome::new("list", vec![61.0]).beside(vec![15.5]),
            Outcome::new("get-pod", vec![13_000.0]),
            Outcome::missing("create-docker", "no engine answers"),
        ];
        expect![[r#"
            ROW            WHAT                                               FIGURE     RANGE           GATE   PEER                                                TIMES BETTER
            pod            pod create to Ready, image present, one at a time  31 ms      24..45.2        <= 60  201 (kubelet + containerd 1.6 on 2 such cores)      6.5           ok
                           the image is 1 MB
            list           list 2,000 pods, resourceVersion=0, 4 clients      61 /s      61..61          >= 5x  15.5 here                                           3.9           OVER
            get-pod        get a pod, 32 readers                              13,000 /s  13,000..13,000  >= 5x  2,594 (upstream 1.36.3 on 2 such cores)             5.0           ok
            create-docker  create to Ready, 1 + 2 Docker nodes                                           <= 2   12.6 (k3d 5.8.3, one node, minikube's time-to-k8s)                not measured
                           no engine answers
        "#]]
        .assert_eq(&table(&outcomes));
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let numbers = [0.0, 0.123, 7.0, 12.56, 633.4, 1303.0, 1_234_567.0].map(number);
        assert_eq!(numbers, ["0", "0.12", "7", "12.6", "633", "1,303", "1,234,567"]);
    }
}
