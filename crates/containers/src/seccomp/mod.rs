//! Seccomp profiles compiled to classic BPF, without a C library.
//!
//! A profile is a default action and rules, first match wins; [`bpf`] makes a program of it that finds a call by
//! binary search and knows the other architecture whose calls the kernel takes (i386 on x86-64, arm on arm64).

mod bpf;
mod default;
#[cfg(test)]
mod tests;

use std::path::Path;

use linux::capabilities::CapabilitySet;
use linux::seccomp::Instruction;
use serde::Deserialize;

/// What happens at a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Allow,
    Errno(u16),
    KillProcess,
    KillThread,
    Log,
    Trace(u16),
    Trap,
}

#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub default: Action,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub names: Vec<String>,
    pub action: Action,
    /// All must hold.
    pub arguments: Vec<Argument>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Argument {
    /// 0 to 5.
    pub index: u8,
    pub operator: Operator,
    pub value: u64,
    /// For [`Operator::MaskedEqual`].
    pub mask: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    MaskedEqual,
}

/// Why a profile is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} is not a seccomp profile: {reason}")]
    Document { path: String, reason: String },
    #[error("it compiles to {0} instructions, the kernel takes 4096")]
    TooLong(usize),
    #[error("seccomp profiles are not supported on {}", std::env::consts::ARCH)]
    Architecture,
}

/// The filter of containerd's default profile, for a process with at most these capabilities.
pub(crate) fn runtime_default(capabilities: u64) -> Result<Vec<Instruction>, Error> {
    bpf::compile(&default::profile(CapabilitySet::from_bits_retain(capabilities)))
}

/// The filter of a profile in the OCI runtime specification's JSON.
pub(crate) fn from_file(path: &Path) -> Result<Vec<Instruction>, Error> {
    let name = path.display().to_string();
    let text = std::fs::read(path).map_err(|source| Error::Read { path: name.clone(), source })?;
    bpf::compile(&parse(&text).map_err(|reason| Error::Document { path: name, reason })?)
}

fn parse(text: &[u8]) -> Result<Profile, String> {
    let document: Document = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut rules = Vec::new();
    for syscall in document.syscalls {
        rules.push(Rule {
            action: action(&syscall.action, syscall.errno_ret)?,
            names: syscall.names,
            arguments: syscall.args.unwrap_or_default().into_iter().map(argument).collect::<Result<_, _>>()?,
        });
    }
    Ok(Profile { default: action(&document.default_action, document.default_errno_ret)?, rules })
}

/// Unknown fields are for other runtimes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<DocumentRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentRule {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<DocumentArgument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentArgument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(1)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(1)),
        "SCMP_ACT_TRAP" => Action::Trap,
        other => return Err(format!("the action {other} is not supported")),
    })
}

fn argument(document: DocumentArgument) -> Result<Argument, String> {
    let operator = match document.op.as_str() {
        "SCMP_CMP_EQ" => Operator::Equal,
        "SCMP_CMP_NE" => Operator::NotEqual,
        "SCMP_CMP_LT" => Operator::Less,
        "SCMP_CMP_LE" => Operator::LessOrEqual,
        "SCMP_CMP_GT" => Operator::Greater,
        "SCMP_CMP_GE" => Operator::GreaterOrEqual,
        "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual,
        other => return Err(format!("the comparison {other} is not known")),
    };
    if document.index > 5 {
        return Err(format!("a system call has no argument {}", document.index));
    }
    // In this comparison the first value is the mask.
    let (value, mask) = match operator {
        Operator::MaskedEqual => (document.value_two, document.value),
        _ => (document.value, 0),
    };
    Ok(Argument { index: document.index, operator, value, mask })
}

/// A filter as bytes, to travel.
pub(crate) fn to_bytes(program: &[Instruction]) -> Vec<u8> {
    let encode = |it: &Instruction| {
        let [code_low, code_high] = it.code.to_le_bytes();
        let [a, b, c, d] = it.operand.to_le_bytes();
        [code_low, code_high, it.jump_true, it.jump_false, a, b, c, d]
    };
    program.iter().flat_map(encode).collect()
}

/// The reverse of [`to_bytes`].
pub(crate) fn from_bytes(bytes: &[u8]) -> Vec<Instruction> {
    let (chunks, _) = bytes.as_chunks::<8>();
    let decode = |it: &[u8; 8]| Instruction {
        code: u16::from_le_bytes([it[0], it[1]]),
        jump_true: it[2],
        jump_false: it[3],
        operand: u32::from_le_bytes([it[4], it[5], it[6], it[7]]),
    };
    chunks.iter().map(decode).collect()
}
