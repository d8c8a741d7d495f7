//! Which devices a container may use: text rules on v1, an eBPF program on v2.

use crate::sys::BpfInstruction;
use std::fmt;

/// Permission to read, write and make nodes of some character devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) major: u32,
    /// `None` is every minor number.
    pub(super) minor: Option<u32>,
}

const fn rule(major: u32, minor: u32) -> Rule {
    Rule { major, minor: Some(minor) }
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
    Rule { major: 136, minor: None },
];

/// As written to `devices.allow`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minor {
            Some(minor) => write!(f, "c {}:{minor} rwm", self.major),
            None => write!(f, "c {}:* rwm", self.major),
        }
    }
}

// Codes of linux/bpf_common.h and linux/bpf.h.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const JUMP_IF_NOT_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT
/// `BPF_DEVCG_DEV_CHAR`
const CHARACTER: i32 = 2;

const fn instruction(code: u8, registers: u8, offset: i16, immediate: u32) -> BpfInstruction {
    BpfInstruction { code, registers, offset, immediate: immediate.cast_signed() }
}

/// The verdict for a `struct bpf_cgroup_dev_ctx` in register 1: type and access, major, minor, 4 bytes each. All
/// rules allow every access, so only type and numbers are compared.
pub(super) fn program(rules: &[Rule]) -> Vec<BpfInstruction> {
    let mut program = vec![
        instruction(LOAD_WORD, 0x12, 0, 0),
        instruction(AND, 0x02, 0, 0xffff),
        instruction(LOAD_WORD, 0x13, 4, 0),
        instruction(LOAD_WORD, 0x14, 8, 0),
        // Anything but a character device goes to the verdict "no" directly.
        instruction(JUMP_IF_NOT_EQUAL, 0x02, 0, CHARACTER.cast_unsigned()),
    ];
    let head = program.len() - 1;
    for rule in rules {
        if let Some(minor) = rule.minor {
            program.push(instruction(JUMP_IF_NOT_EQUAL, 0x03, 3, rule.major));
            program.push(instruction(JUMP_IF_NOT_EQUAL, 0x04, 2, minor));
        } else {
            program.push(instruction(JUMP_IF_NOT_EQUAL, 0x03, 2, rule.major));
        }
        program.push(instruction(MOVE, 0x00, 0, 1));
        program.push(instruction(EXIT, 0, 0, 0));
    }
    program[head].offset = i16::try_from(program.len() - head - 1).unwrap_or(i16::MAX);
    program.push(instruction(MOVE, 0x00, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows the program as the kernel would.
    fn allowed(kind: u32, major: u32, minor: u32) -> bool {
        let context = [kind | (7 << 16), major, minor];
        let mut registers = [0_u32; 8];
        let program = program(DEFAULT);
        let mut at = 0;
        loop {
            let now = program[at];
            let target = usize::from(now.registers & 0xf);
            at += 1;
            match now.code {
                LOAD_WORD => registers[target] = context[usize::try_from(now.offset / 4).unwrap()],
                AND => registers[target] &= now.immediate.cast_unsigned(),
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
    fn text_for_version_1() {
        assert_eq!(DEFAULT[0].to_string(), "c 1:3 rwm");
        assert_eq!(DEFAULT[8].to_string(), "c 136:* rwm");
    }
}
