//! Installing a seccomp filter. What is in it is the caller's business.

use std::io;

/// One instruction of classic BPF, as `linux/filter.h` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub operand: u32,
}

/// Confines the calling thread to `program`, for good.
///
/// Needs `no_new_privs` or CAP_SYS_ADMIN. At most 4,096 instructions.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let mut filters: Vec<libc::sock_filter> = program
        .iter()
        .map(|it| libc::sock_filter { code: it.code, jt: it.jump_true, jf: it.jump_false, k: it.operand })
        .collect();
    let Ok(length) = u16::try_from(filters.len()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a seccomp filter has at most 4096 instructions"));
    };
    let program = libc::sock_fprog { len: length, filter: filters.as_mut_ptr() };
    // SAFETY: `program` points to `length` instructions that outlive the call; the kernel copies and checks them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
