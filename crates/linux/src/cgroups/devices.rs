//! Which devices a group's processes may use: rules, and for v2 the small program that applies them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Lets through what it matches; what no rule matches is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pub kind: DeviceKind,
    /// Absent: any.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    All,
    Block,
    Character,
}

/// A set of uses, with the bits of `BPF_DEVCG_ACC_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    pub const MAKE: Self = Self(1);
    pub const READ: Self = Self(2);
    pub const WRITE: Self = Self(4);
    pub const ALL: Self = Self(7);

    /// Reads `rwm`.
    pub fn parse(text: &str) -> Option<Self> {
        text.chars().try_fold(Self(0), |set, letter| match letter {
            'm' => Some(Self(set.0 | Self::MAKE.0)),
            'r' => Some(Self(set.0 | Self::READ.0)),
            'w' => Some(Self(set.0 | Self::WRITE.0)),
            _ => None,
        })
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// An eBPF instruction (`linux/bpf.h`): opcode, registers, offset, immediate.
fn instruction(opcode: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(opcode)
        | u64::from(destination | source << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// The program: r1 points to `bpf_cgroup_dev_ctx { access_type, major, minor }`; 1 in r0 allows.
pub(super) fn program(rules: &[DeviceRule]) -> Vec<u64> {
    const LOAD: u8 = 0x61; // ldxw
    const AND: u8 = 0x54; // alu32 and immediate
    const RIGHT: u8 = 0x74; // alu32 shift right immediate
    const COPY: u8 = 0xbc; // alu32 mov register
    const SET: u8 = 0xb7; // mov immediate
    const UNEQUAL: u8 = 0x55; // jne immediate
    const EXIT: u8 = 0x95;
    let mut code = vec![
        // r2 = kind, r3 = access, r4 = major, r5 = minor
        instruction(LOAD, 2, 1, 0, 0),
        instruction(COPY, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(RIGHT, 3, 0, 0, 16),
        instruction(LOAD, 4, 1, 4, 0),
        instruction(LOAD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let mut tests = Vec::new();
        match rule.kind {
            DeviceKind::All => {}
            DeviceKind::Block => tests.push((2, 1)),
            DeviceKind::Character => tests.push((2, 2)),
        }
        let numbers = [(4, rule.major), (5, rule.minor)];
        tests.extend(numbers.into_iter().filter_map(|(register, it)| Some((register, it?.cast_signed()))));
        let narrow = rule.access != Access::ALL;
        // From each test, the jump to the next rule goes over what is left of this one.
        let length = tests.len() + if narrow { 3 } else { 0 } + 2;
        let mut at = 0;
        for (register, value) in tests {
            at += 1;
            code.push(instruction(UNEQUAL, register, 0, jump(length - at), value));
        }
        if narrow {
            // What is asked for beyond what the rule gives must be nothing.
            code.push(instruction(COPY, 6, 3, 0, 0));
            code.push(instruction(AND, 6, 0, 0, i32::from(!rule.access.0 & 7)));
            code.push(instruction(UNEQUAL, 6, 0, 2, 0));
        }
        code.push(instruction(SET, 0, 0, 0, 1));
        code.push(instruction(EXIT, 0, 0, 0, 0));
    }
    code.push(instruction(SET, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

fn jump(over: usize) -> i16 {
    i16::try_from(over).expect("a rule is at most eight instructions")
}

/// Loads the program and attaches it to the group that `directory` is.
pub(super) fn attach(directory: &OwnedFd, rules: &[DeviceRule]) -> io::Result<()> {
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE_PROGRAM: u32 = 15;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;

    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let code = program(rules);
    let load = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: u32::try_from(code.len()).map_err(io::Error::other)?,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: `load` points to `count` instructions and a C string, all of which outlive the call.
    let program = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    if program < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, which nobody else knows.
    let program = unsafe { OwnedFd::from_raw_fd(i32::try_from(program).map_err(io::Error::other)?) };
    let attach = Attach {
        target: directory.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `attach` names two open descriptors and outlives the call. The group keeps the program alive.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
