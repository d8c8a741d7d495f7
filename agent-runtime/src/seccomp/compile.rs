//! From a table of system calls to a classic BPF program (kernel: Documentation/userspace-api/seccomp_filter.rst).
//!
//! The table is turned into ranges of numbers with one action each, and the program searches them by halves, so a
//! call costs about eight comparisons.

use std::collections::BTreeMap;

/// `SECCOMP_RET_KILL_PROCESS`
pub(super) const KILL: u32 = 0x8000_0000;
/// `SECCOMP_RET_ERRNO | ENOSYS`
const NOT_IMPLEMENTED: u32 = 0x0005_0026;
/// Bit of the x32 numbers on x86-64.
const X32: u32 = 0x4000_0000;

/// What happens on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A `SECCOMP_RET_*` value.
    Return(u32),
    /// Allowed if none of `bits` is set in an argument, else the default.
    AllowUnlessBits { argument: u32, bits: u32 },
    /// Allowed if an argument is none of `values`, else the default.
    AllowUnlessOneOf { argument: u32, values: &'static [u32] },
    /// Allowed if an argument is one of `values`, else the default.
    AllowIfOneOf { argument: u32, values: &'static [u32] },
}

impl Action {
    /// `SECCOMP_RET_ALLOW`
    pub(super) const ALLOW: Self = Self::Return(0x7fff_0000);
}

/// `struct sock_filter`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

impl Instruction {
    /// As the kernel reads it.
    pub(super) fn bytes(self) -> [u8; 8] {
        let ([a, b], [e, f, g, h]) = (self.code.to_ne_bytes(), self.value.to_ne_bytes());
        [a, b, self.if_true, self.if_false, e, f, g, h]
    }
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, value }
}

fn branch(code: u16, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, value }
}

/// A table of system calls.
#[derive(Debug)]
pub(super) struct Filter {
    default: Action,
    calls: BTreeMap<u32, Action>,
}

impl Filter {
    pub(super) fn new(default: Action) -> Self {
        Self { default, calls: BTreeMap::new() }
    }

    pub(super) fn set(&mut self, call: libc::c_long, action: Action) {
        if let Ok(number) = u32::try_from(call) {
            self.calls.insert(number, action);
        }
    }

    pub(super) fn set_all(&mut self, calls: &[libc::c_long], action: Action) {
        for call in calls {
            self.set(*call, action);
        }
    }

    /// `x32` adds the refusal of the second numbering of x86-64.
    pub(super) fn compile(&self, architecture: u32, x32: bool) -> Vec<Instruction> {
        // struct seccomp_data: number at 0, architecture at 4, arguments from 16.
        let mut program =
            vec![plain(LOAD, 4), branch(JUMP_EQUAL, architecture, 1, 0), plain(RETURN, KILL), plain(LOAD, 0)];
        if x32 {
            program.push(branch(JUMP_AT_LEAST, X32, 0, 1));
            program.push(plain(RETURN, NOT_IMPLEMENTED));
        }
        program.extend(self.search(&self.ranges()));
        program
    }

    /// First number and action of each range; the ranges cover all numbers.
    fn ranges(&self) -> Vec<(u32, Action)> {
        let mut ranges: Vec<(u32, Action)> = vec![(0, self.default)];
        let mut add = |start: u32, action: Action| match ranges.last_mut() {
            Some((last, before)) if *last == start => *before = action,
            Some((_, before)) if *before == action => {}
            _ => ranges.push((start, action)),
        };
        for (&number, &action) in &self.calls {
            add(number, action);
            if !self.calls.contains_key(&(number + 1)) {
                add(number + 1, self.default);
            }
        }
        ranges
    }

    fn search(&self, ranges: &[(u32, Action)]) -> Vec<Instruction> {
        match ranges {
            [] => Vec::new(),
            [(_, action)] => self.act(*action),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let (low_code, high_code) = (self.search(low), self.search(high));
                // Short jumps reach 255 instructions; the long one has 32 bits.
                let over = u32::try_from(low_code.len()).unwrap_or(u32::MAX);
                let head = [branch(JUMP_AT_LEAST, high[0].0, 0, 1), plain(JUMP, over)];
                [&head[..], &low_code, &high_code].concat()
            }
        }
    }

    /// Arguments are compared in their low half only: all that are looked at are 32 bits wide in the kernel.
    fn act(&self, action: Action) -> Vec<Instruction> {
        let argument = |number: u32| {
            let low_half = if cfg!(target_endian = "big") { 4 } else { 0 };
            plain(LOAD, 16 + 8 * number + low_half)
        };
        let refuse = self.default_value();
        let allow = plain(RETURN, 0x7fff_0000);
        match action {
            Action::Return(value) => vec![plain(RETURN, value)],
            Action::AllowUnlessBits { argument: number, bits } => {
                vec![argument(number), branch(JUMP_ANY_BIT, bits, 1, 0), allow, plain(RETURN, refuse)]
            }
            Action::AllowUnlessOneOf { argument: number, values } => {
                choose(argument(number), values, plain(RETURN, refuse), allow)
            }
            Action::AllowIfOneOf { argument: number, values } => {
                choose(argument(number), values, allow, plain(RETURN, refuse))
            }
        }
    }

    fn default_value(&self) -> u32 {
        match self.default {
            Action::Return(value) => value,
            _ => KILL,
        }
    }
}

fn choose(load: Instruction, values: &[u32], found: Instruction, other: Instruction) -> Vec<Instruction> {
    let mut code = vec![load];
    for value in values {
        code.extend([branch(JUMP_EQUAL, *value, 0, 1), found]);
    }
    code.push(other);
    code
}

/// Follows a program as the kernel would.
#[cfg(test)]
pub(super) fn evaluate(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut accumulator = 0_u32;
    let mut at = 0;
    loop {
        let now = program[at];
        at += 1;
        let jump = |condition: bool| usize::from(if condition { now.if_true } else { now.if_false });
        match now.code {
            LOAD => {
                accumulator = match now.value {
                    0 => number,
                    4 => architecture,
                    offset => (arguments[(offset as usize - 16) / 8] & 0xffff_ffff) as u32,
                }
            }
            JUMP => at += now.value as usize,
            JUMP_EQUAL => at += jump(accumulator == now.value),
            JUMP_AT_LEAST => at += jump(accumulator >= now.value),
            JUMP_ANY_BIT => at += jump(accumulator & now.value != 0),
            RETURN => return now.value,
            code => panic!("unknown code {code:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The program says for every number what the table says.
        #[test]
        fn program_equals_table(table in proptest::collection::btree_map(0_u32..500, 1_u32..5, 0..300), probe in 0_u32..600) {
            let mut filter = Filter::new(Action::Return(9));
            for (number, action) in &table {
                filter.set(libc::c_long::from(*number), Action::Return(*action));
            }
            let program = filter.compile(7, false);
            let expected = table.get(&probe).copied().unwrap_or(9);
            prop_assert_eq!(evaluate(&program, 7, probe, [0; 6]), expected);
        }
    }
}
