//! From rules to instructions.
//!
//! ```text
//! load architecture; is it one of ours? else kill
//! per architecture: load number; binary search over ranges of numbers with one fate; return, or look at arguments
//! ```

use std::collections::BTreeMap;
use std::sync::LazyLock;

use linux::seccomp::Instruction;

use super::{Action, Argument, Error, Operator, Profile, Rule};

/// The kernel's limit.
const LONGEST: usize = 4096;

// linux/bpf_common.h
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

// struct seccomp_data
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// x32 calls are x86-64's with this bit, in the same architecture.
const X32: u32 = 0x4000_0000;

/// An architecture: its `AUDIT_ARCH_*`, and its column in the table.
struct Architecture {
    audit: u32,
    column: usize,
    /// Calls may carry [`X32`].
    x32: bool,
}

const ARCHITECTURES: &[Architecture] = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => &[
        Architecture { audit: 0xc000_003e, column: 0, x32: true },
        Architecture { audit: 0x4000_0003, column: 1, x32: false },
    ],
    b"aarch64" => &[
        Architecture { audit: 0xc000_00b7, column: 2, x32: false },
        Architecture { audit: 0x4000_0028, column: 3, x32: false },
    ],
    _ => &[],
};

/// Numbers by name, one for each column.
static NUMBERS: LazyLock<BTreeMap<&'static str, [Option<u32>; 4]>> = LazyLock::new(|| {
    let table = include_str!("syscalls.tsv");
    let rows = table.lines().filter(|it| !it.starts_with('#')).filter_map(|row| {
        let mut columns = row.split('\t');
        let name = columns.next()?;
        Some((name, std::array::from_fn(|_| columns.next().and_then(|it| it.parse().ok()))))
    });
    rows.collect()
});

pub(super) fn compile(profile: &Profile) -> Result<Vec<Instruction>, Error> {
    if ARCHITECTURES.is_empty() {
        return Err(Error::Architecture);
    }
    let mut program = vec![step(LOAD, ARCHITECTURE)];
    for architecture in ARCHITECTURES {
        let section = section(profile, architecture);
        // Sections are longer than a conditional jump reaches.
        program.push(Instruction { code: JUMP_EQUAL, jump_true: 1, jump_false: 0, operand: architecture.audit });
        program.push(step(JUMP, length(&section)));
        program.extend(section);
    }
    program.push(give(Action::KillProcess));
    if program.len() > LONGEST { Err(Error::TooLong(program.len())) } else { Ok(program) }
}

fn section(profile: &Profile, architecture: &Architecture) -> Vec<Instruction> {
    let mut fates: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        for name in &rule.names {
            // A name that this architecture does not have needs no rule.
            if let Some(number) = NUMBERS.get(name.as_str()).and_then(|it| it[architecture.column]) {
                fates.entry(number).or_default().push(rule);
            }
        }
    }
    let mut ranges: Vec<(u32, Vec<Instruction>)> = vec![(0, vec![give(profile.default)])];
    let mut next = 0;
    for (number, rules) in fates {
        if number > next {
            push(&mut ranges, next, vec![give(profile.default)]);
        }
        push(&mut ranges, number, fate(&rules, profile.default));
        next = number + 1;
    }
    push(&mut ranges, next, vec![give(profile.default)]);
    let mut section = vec![step(LOAD, NUMBER)];
    if architecture.x32 {
        section.push(step(AND, !X32));
    }
    section.extend(search(&ranges));
    section
}

/// Starts a range, unless it goes on like the last one.
fn push(ranges: &mut Vec<(u32, Vec<Instruction>)>, from: u32, code: Vec<Instruction>) {
    match ranges.last_mut() {
        Some(last) if last.0 == from => last.1 = code,
        Some(last) if last.1 == code => {}
        _ => ranges.push((from, code)),
    }
}

/// Decides by the number in the accumulator which range's code runs.
fn search(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    if let [only] = ranges {
        return only.1.clone();
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let low = search(low);
    let mut code = Vec::with_capacity(low.len() + 2);
    match u8::try_from(low.len()) {
        Ok(over) => {
            let operand = high[0].0;
            code.push(Instruction { code: JUMP_GREATER_OR_EQUAL, jump_true: over, jump_false: 0, operand });
        }
        Err(_) => {
            let operand = high[0].0;
            code.push(Instruction { code: JUMP_GREATER_OR_EQUAL, jump_true: 0, jump_false: 1, operand });
            code.push(step(JUMP, length(&low)));
        }
    }
    code.extend(low);
    code.extend(search(high));
    code
}

/// What a call's rules come to: the first whose arguments match.
fn fate(rules: &[&Rule], default: Action) -> Vec<Instruction> {
    let mut code = Vec::new();
    for rule in rules {
        if rule.arguments.is_empty() {
            code.push(give(rule.action));
            return code;
        }
        // Backwards, for a failed test jumps over all that follows in its rule.
        let mut body = vec![give(rule.action)];
        for argument in rule.arguments.iter().rev() {
            let mut test = test(argument, body.len());
            test.append(&mut body);
            body = test;
        }
        code.extend(body);
    }
    code.push(give(default));
    code
}

/// Where a test goes on.
#[derive(Clone, Copy)]
enum To {
    /// The next instruction.
    Next,
    /// The test holds: behind it.
    Holds,
    /// It fails: behind the rule.
    Fails,
}

/// Operation, operand, and for a jump where to if it is so and if not.
type Step = (u16, u32, Option<(To, To)>);

/// Code that falls through when the argument matches and jumps over `rest` more instructions when it does not.
fn test(argument: &Argument, rest: usize) -> Vec<Instruction> {
    use To::{Fails, Holds, Next};
    let at = ARGUMENTS + 8 * u32::from(argument.index);
    let (low, high) = (argument.value as u32, (argument.value >> 32) as u32);
    // Both architectures are little endian: the high half comes second.
    let (load_low, load_high) = ((LOAD, at, None), (LOAD, at + 4, None));
    let jump = |code: u16, operand: u32, yes: To, no: To| (code, operand, Some((yes, no)));
    let compare = |last: u16, holds: To, fails: To| {
        vec![
            load_high,
            jump(JUMP_GREATER, high, holds, Next),
            jump(JUMP_EQUAL, high, Next, fails),
            load_low,
            jump(last, low, holds, fails),
        ]
    };
    let steps = match argument.operator {
        Operator::Equal => {
            vec![load_high, jump(JUMP_EQUAL, high, Next, Fails), load_low, jump(JUMP_EQUAL, low, Holds, Fails)]
        }
        Operator::NotEqual => {
            vec![load_high, jump(JUMP_EQUAL, high, Next, Holds), load_low, jump(JUMP_EQUAL, low, Fails, Holds)]
        }
        Operator::Greater => compare(JUMP_GREATER, Holds, Fails),
        Operator::GreaterOrEqual => compare(JUMP_GREATER_OR_EQUAL, Holds, Fails),
        Operator::Less => compare(JUMP_GREATER_OR_EQUAL, Fails, Holds),
        Operator::LessOrEqual => compare(JUMP_GREATER, Fails, Holds),
        Operator::MaskedEqual => vec![
            load_high,
            (AND, (argument.mask >> 32) as u32, None),
            jump(JUMP_EQUAL, high, Next, Fails),
            load_low,
            (AND, argument.mask as u32, None),
            jump(JUMP_EQUAL, low, Holds, Fails),
        ],
    };
    let count = steps.len();
    let distance = |to: To, position: usize| {
        let left = count - position - 1;
        let over = match to {
            Next => 0,
            Holds => left,
            Fails => left + rest,
        };
        u8::try_from(over).expect("a rule has at most six arguments of six instructions")
    };
    let encode = |(position, (code, operand, jump)): (usize, Step)| match jump {
        None => step(code, operand),
        Some((yes, no)) => {
            Instruction { code, jump_true: distance(yes, position), jump_false: distance(no, position), operand }
        }
    };
    steps.into_iter().enumerate().map(encode).collect()
}

fn step(code: u16, operand: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand }
}

fn length(code: &[Instruction]) -> u32 {
    u32::try_from(code.len()).expect("a program is far shorter")
}

fn give(action: Action) -> Instruction {
    let value = match action {
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Errno(number) => 0x0005_0000 | u32::from(number),
        Action::Trace(data) => 0x7ff0_0000 | u32::from(data),
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
        Action::KillProcess => 0x8000_0000,
    };
    step(RETURN, value)
}
