//! Which devices a container may use: text rules on v1, an eBPF program on v2.

use crate::device::Found;
use crate::sys::BpfInstruction;
use std::fmt;

/// Permission for some devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Block rather than character devices.
    block: bool,
    major: u32,
    /// `None` is every minor number.
    minor: Option<u32>,
    /// `BPF_DEVCG_ACC_*`
    access: u32,
}

/// `BPF_DEVCG_ACC_MKNOD`
const MAKE: u32 = 1;
/// `BPF_DEVCG_ACC_READ`
const READ: u32 = 2;
/// `BPF_DEVCG_ACC_WRITE`
const WRITE: u32 = 4;
const ALL: u32 = MAKE | READ | WRITE;

const fn rule(major: u32, minor: u32) -> Rule {
    Rule { block: false, major, minor: Some(minor), access: ALL }
}

/// null, zero, full, random, urandom, tty, console, ptmx and pseudo-terminals (kernel: admin-guide/devices.txt).
pub(super) const DEFAULT: &[Rule] = &[
    rule(1, 3),
    rule(1, 5),
    rule(1, 7),
    rule(1, 8),
    rule(1, 9),
    rule(5, 0),
    rule(5, 1),
    rule(5, 2),
    Rule { block: false, major: 136, minor: None, access: ALL },
];

impl Rule {
    /// For a device of the host. Making its file is always allowed, because init makes it as a member of the cgroup; who may
    /// make another can do no more with it than with the first. Letters other than `r`, `w` and `m` were refused by the validation.
    pub(super) fn of(found: &Found) -> Self {
        let access = [('m', MAKE), ('r', READ), ('w', WRITE)]
            .into_iter()
            .filter(|(letter, _)| found.permissions.contains(*letter))
            .fold(MAKE, |access, (_, bit)| access | bit);
        Self { block: found.block, major: found.major, minor: Some(found.minor), access }
    }
}

/// As written to `devices.allow`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:", if self.block { 'b' } else { 'c' }, self.major)?;
        match self.minor {
            Some(minor) => write!(f, "{minor} ")?,
            None => f.write_str("* ")?,
        }
        for (letter, bit) in [('r', READ), ('w', WRITE), ('m', MAKE)] {
            if self.access & bit != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

// Codes of linux/bpf_common.h and linux/bpf.h.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const JUMP_IF_NOT_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT
const MOVE_REGISTER: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
/// `BPF_DEVCG_DEV_BLOCK`
const BLOCK: u32 = 1;
/// `BPF_DEVCG_DEV_CHAR`
const CHARACTER: u32 = 2;

const fn instruction(code: u8, registers: u8, offset: i16, immediate: u32) -> BpfInstruction {
    BpfInstruction { code, registers, offset, immediate: immediate.cast_signed() }
}

/// The verdict for a `struct bpf_cgroup_dev_ctx` in register 1: type and access, major, minor, 4 bytes each.
pub(super) fn program(rules: &[Rule]) -> Vec<BpfInstruction> {
    let mut program = vec![
        instruction(LOAD_WORD, 0x12, 0, 0),
        instruction(MOVE_REGISTER, 0x25, 0, 0),
        instruction(SHIFT_RIGHT, 0x05, 0, 16),
        instruction(AND, 0x02, 0, 0xffff),
        instruction(LOAD_WORD, 0x13, 4, 0),
        instruction(LOAD_WORD, 0x14, 8, 0),
    ];
    for rule in rules {
        program.extend(allow(rule));
    }
    program.push(instruction(MOVE, 0x00, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0));
    program
}

/// Comparisons of type (register 2), major (3), minor (4) and access (5); each that fails jumps behind the verdict.
fn allow(rule: &Rule) -> Vec<BpfInstruction> {
    let kind = if rule.block { BLOCK } else { CHARACTER };
    let mut checks = vec![instruction(JUMP_IF_NOT_EQUAL, 0x02, 0, kind)];
    checks.push(instruction(JUMP_IF_NOT_EQUAL, 0x03, 0, rule.major));
    if let Some(minor) = rule.minor {
        checks.push(instruction(JUMP_IF_NOT_EQUAL, 0x04, 0, minor));
    }
    let forbidden = ALL & !rule.access;
    if forbidden != 0 {
        checks.push(instruction(MOVE_REGISTER, 0x56, 0, 0));
        checks.push(instruction(AND, 0x06, 0, forbidden));
        checks.push(instruction(JUMP_IF_NOT_EQUAL, 0x06, 0, 0));
    }
    let end = checks.len() + 2;
    for (index, check) in checks.iter_mut().enumerate() {
        if check.code == JUMP_IF_NOT_EQUAL {
            check.offset = i16::try_from(end - index - 1).unwrap_or(i16::MAX);
        }
    }
    checks.push(instruction(MOVE, 0x00, 0, 1));
    checks.push(instruction(EXIT, 0, 0, 0));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows the program as the kernel would.
    fn allowed(kind: u32, major: u32, minor: u32) -> bool {
        verdict(DEFAULT, [kind | (7 << 16), major, minor])
    }

    fn verdict(rules: &[Rule], context: [u32; 3]) -> bool {
        let mut registers = [0_u32; 8];
        let program = program(rules);
        let mut at = 0;
        loop {
            let now = program[at];
            let target = usize::from(now.registers & 0xf);
            at += 1;
            match now.code {
                LOAD_WORD => registers[target] = context[usize::try_from(now.offset / 4).unwrap()],
                AND => registers[target] &= now.immediate.cast_unsigned(),
                MOVE_REGISTER => registers[target] = registers[usize::from(now.registers >> 4)],
                SHIFT_RIGHT => registers[target] >>= now.immediate,
                MOVE => registers[target] = now.immediate.cast_unsigned(),
                JUMP_IF_NOT_EQUAL if registers[target] != now.immediate.cast_unsigned() => {
                    at += usize::try_from(now.offset).unwrap();
                }
                JUMP_IF_NOT_EQUAL => {}
                EXIT => return registers[0] == 1,
                code => panic!("unknown code {code:#x}"),
            }
        }
    }

    #[test]
    fn only_the_rules_pass() {
        for (major, minor) in [(1, 3), (1, 5), (1, 9), (5, 0), (5, 2), (136, 0), (136, 77)] {
            assert!(allowed(2, major, minor), "{major}:{minor}");
            assert!(!allowed(1, major, minor), "block {major}:{minor}");
        }
        for (major, minor) in [(1, 1), (1, 4), (1, 11), (5, 3), (8, 0), (10, 200), (0, 0)] {
            assert!(!allowed(2, major, minor), "{major}:{minor}");
        }
    }

    #[test]
    fn access_is_limited_to_what_was_asked_for() {
        let found = Found {
            path: "/dev/sda".into(),
            block: true,
            major: 8,
            minor: 1,
            mode: 0o660,
            user: 0,
            group: 0,
            permissions: "r".into(),
        };
        let rule = Rule::of(&found);
        assert_eq!(rule.to_string(), "b 8:1 rm");
        let rules = [DEFAULT[0], rule, DEFAULT[8]];
        assert!(verdict(&rules, [BLOCK | (READ << 16), 8, 1]));
        assert!(!verdict(&rules, [BLOCK | (WRITE << 16), 8, 1]));
        assert!(!verdict(&rules, [BLOCK | ((READ | WRITE) << 16), 8, 1]));
        assert!(!verdict(&rules, [CHARACTER | (READ << 16), 8, 1]));
        assert!(verdict(&rules, [CHARACTER | (ALL << 16), 136, 9]));
    }

    #[test]
    fn text_for_version_1() {
        assert_eq!(DEFAULT[0].to_string(), "c 1:3 rwm");
        assert_eq!(DEFAULT[8].to_string(), "c 136:* rwm");
    }
}
