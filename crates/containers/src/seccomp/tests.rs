use super::*;

/// What the kernel would do, by an interpreter of the few instructions that filters have.
fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|it| it.to_le_bytes()));
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let it = program[at];
        at += 1;
        let mut branch = |yes: bool| at += usize::from(if yes { it.jump_true } else { it.jump_false });
        match it.code {
            0x20 => accumulator = u32::from_le_bytes(data[it.operand as usize..][..4].try_into().unwrap()),
            0x54 => accumulator &= it.operand,
            0x05 => at += it.operand as usize,
            0x15 => branch(accumulator == it.operand),
            0x25 => branch(accumulator > it.operand),
            0x35 => branch(accumulator >= it.operand),
            0x06 => return it.operand,
            code => panic!("instruction {code:#x}"),
        }
    }
}

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;

#[test]
#[cfg(target_arch = "x86_64")]
fn runtime_default_does_what_containerds_profile_does() {
    let plain = runtime_default(0).unwrap();
    let admin = runtime_default(1 << 21).unwrap();
    assert!(plain.len() < 1200, "{} instructions", plain.len());
    let check = |program: &[Instruction], architecture, number, first, expected: u32, what: &str| {
        let found = run(program, architecture, number, [first, 0, 0, 0, 0, 0]);
        assert_eq!(found, expected, "{what}: {found:#x}");
    };
    check(&plain, X86_64, 0, 0, ALLOW, "read");
    check(&plain, I386, 3, 0, ALLOW, "read of i386");
    check(&plain, X86_64, 0x4000_0000, 0, ALLOW, "read of x32");
    check(&plain, X86_64, 165, 0, EPERM, "mount");
    check(&admin, X86_64, 165, 0, ALLOW, "mount with CAP_SYS_ADMIN");
    check(&plain, X86_64, 56, 0x11, ALLOW, "clone as fork does");
    check(&plain, X86_64, 56, 0x1000_0000, EPERM, "clone with a user namespace");
    check(&plain, X86_64, 435, 0, 0x0005_0026, "clone3 is ENOSYS");
    check(&admin, X86_64, 435, 0, ALLOW, "clone3 with CAP_SYS_ADMIN");
    check(&plain, X86_64, 41, 2, ALLOW, "socket of IPv4");
    check(&plain, X86_64, 41, 40, EPERM, "socket of a virtual machine");
    check(&plain, X86_64, 135, 0xffff_ffff, ALLOW, "personality query");
    check(&plain, X86_64, 135, 0x40000, EPERM, "personality without randomness");
    check(&plain, X86_64, 304, 0, EPERM, "open_by_handle_at");
    check(&plain, X86_64, 425, 0, EPERM, "io_uring_setup");
    check(&plain, X86_64, 9999, 0, EPERM, "a number that does not exist");
    check(&plain, 0xdead_beef, 0, 0, 0x8000_0000, "a foreign architecture");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_comparison_compares_64_bits() {
    let big = 1_u64 << 32 | 5;
    let cases = [
        ("SCMP_CMP_EQ", big, 0, [(big, true), (5, false), (big + 1, false)]),
        ("SCMP_CMP_NE", big, 0, [(big, false), (5, true), (big + 1, true)]),
        ("SCMP_CMP_LT", big, 0, [(big, false), (6, true), (big - 1, true)]),
        ("SCMP_CMP_LE", big, 0, [(big, true), (6, true), (big + 1, false)]),
        ("SCMP_CMP_GT", big, 0, [(big, false), (6, false), (2 << 32, true)]),
        ("SCMP_CMP_GE", big, 0, [(big, true), (6, false), (2 << 32, true)]),
        ("SCMP_CMP_MASKED_EQ", 0xf0, 0x50, [(0x5f, true), (0x6f, false), (1 << 32 | 0x50, true)]),
    ];
    for (op, value, second, checks) in cases {
        let text = serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["write", "nonsense"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 7, "op": "SCMP_CMP_EQ"},
                {"index": 3, "value": value, "valueTwo": second, "op": op},
            ]}],
        });
        let program = bpf::compile(&parse(text.to_string().as_bytes()).unwrap()).unwrap();
        for (argument, allowed) in checks {
            let found = run(&program, X86_64, 1, [7, 0, 0, argument, 0, 0]);
            assert_eq!(found == ALLOW, allowed, "{op} {argument:#x}");
            assert_eq!(run(&program, X86_64, 1, [8, 0, 0, argument, 0, 0]), EPERM, "the other argument");
        }
    }
}

#[test]
fn profiles_that_cannot_be_kept_are_refused() {
    let check = |text: &str, expected: &str| {
        let error = parse(text.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check("{}", "defaultAction");
    check(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "not supported");
    check(
        r#"{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
        "no argument 6",
    );
}

#[test]
fn filters_travel() {
    let program = runtime_default(0).unwrap();
    assert_eq!(from_bytes(&to_bytes(&program)), program);
}
