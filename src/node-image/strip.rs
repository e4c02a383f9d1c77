//! A program without the sections that only debuggers and linkers read.
//!
//! The kernel loads segments; what lies behind the last one, and the table that names sections, can go. Unwinding
//! tables are in segments and stay.

/// Where an ELF64 header keeps what is needed here (elf(5)).
const CLASS: usize = 4;
const PROGRAM_HEADERS: usize = 32;
const SECTION_HEADERS: usize = 40;
const PROGRAM_HEADER_SIZE: usize = 54;
const PROGRAM_HEADER_COUNT: usize = 56;
const SECTION_HEADER_COUNT: usize = 60;
const HEADER: usize = 64;

/// The part of `program` that runs. What is not a little-endian 64-bit ELF file comes back whole.
pub(crate) fn strip(mut program: Vec<u8>) -> Vec<u8> {
    if let Some(end) = end_of_segments(&program) {
        program.truncate(end);
        program[SECTION_HEADERS..SECTION_HEADERS + 8].fill(0);
        // The count, and the index of the one that has the names.
        program[SECTION_HEADER_COUNT..HEADER].fill(0);
    }
    program
}

fn end_of_segments(program: &[u8]) -> Option<usize> {
    if program.len() < HEADER || !program.starts_with(b"\x7fELF") || program[CLASS..CLASS + 2] != [2, 1] {
        return None;
    }
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(program.get(at..at + 2)?.try_into().ok()?)));
    let long = |at: usize| usize::try_from(u64::from_le_bytes(program.get(at..at + 8)?.try_into().ok()?)).ok();
    let (table, size, count) = (long(PROGRAM_HEADERS)?, half(PROGRAM_HEADER_SIZE)?, half(PROGRAM_HEADER_COUNT)?);
    let mut end = table.checked_add(size.checked_mul(count)?)?;
    for index in 0..count {
        let header = table.checked_add(index * size)?;
        // p_offset and p_filesz.
        end = end.max(long(header + 8)?.checked_add(long(header + 32)?)?);
    }
    (end > HEADER && end <= program.len()).then_some(end)
}
