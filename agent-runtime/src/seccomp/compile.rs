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

/// A comparison of an argument, all 64 bits of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Number of the argument, 0 to 5.
    pub(super) argument: u32,
    pub(super) operator: Operator,
    pub(super) value: u64,
}

/// How an argument is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    GreaterOrEqual,
    Greater,
    /// Equal after all bits but these were cleared.
    MaskedEqual(u64),
}

/// What happens if all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    /// A `SECCOMP_RET_*` value.
    pub(super) verdict: u32,
}

/// What happens on a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The first rule whose conditions hold, else the default.
    Rules(Vec<Rule>),
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
const JUMP_ABOVE: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
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
            self.set(*call, action.clone());
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
        let mut ranges: Vec<(u32, Action)> = vec![(0, self.default.clone())];
        let mut add = |start: u32, action: Action| match ranges.last_mut() {
            Some((last, before)) if *last == start => *before = action,
            Some((_, before)) if *before == action => {}
            _ => ranges.push((start, action)),
        };
        for (&number, action) in &self.calls {
            add(number, action.clone());
            if !self.calls.contains_key(&(number + 1)) {
                add(number + 1, self.default.clone());
            }
        }
        ranges
    }

    fn search(&self, ranges: &[(u32, Action)]) -> Vec<Instruction> {
        match ranges {
            [] => Vec::new(),
            [(_, action)] => self.act(action),
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
    fn act(&self, action: &Action) -> Vec<Instruction> {
        let argument = |number: u32| {
            let low_half = if cfg!(target_endian = "big") { 4 } else { 0 };
            plain(LOAD, 16 + 8 * number + low_half)
        };
        let refuse = self.default_value();
        let allow = plain(RETURN, 0x7fff_0000);
        match action {
            Action::Return(value) => vec![plain(RETURN, *value)],
            Action::Rules(rules) => self.rules(rules),
            Action::AllowUnlessBits { argument: number, bits } => {
                vec![argument(*number), branch(JUMP_ANY_BIT, *bits, 1, 0), allow, plain(RETURN, refuse)]
            }
            Action::AllowUnlessOneOf { argument: number, values } => {
                choose(argument(*number), values, plain(RETURN, refuse), allow)
            }
            Action::AllowIfOneOf { argument: number, values } => {
                choose(argument(*number), values, allow, plain(RETURN, refuse))
            }
        }
    }

    fn rules(&self, rules: &[Rule]) -> Vec<Instruction> {
        let mut code = Vec::new();
        for rule in rules {
            // From the last to the first, because each has to know how far the end of the rule is.
            let mut body = vec![plain(RETURN, rule.verdict)];
            for condition in rule.conditions.iter().rev() {
                let mut check = compare(*condition, body.len());
                check.append(&mut body);
                body = check;
            }
            code.append(&mut body);
        }
        code.push(plain(RETURN, self.default_value()));
        code
    }

    fn default_value(&self) -> u32 {
        match self.default {
            Action::Return(value) => value,
            _ => KILL,
        }
    }
}

/// Goes on behind itself if the condition holds, else over `rest` more instructions. Filters load 32 bits at a time, so the
/// halves are compared one after the other.
fn compare(condition: Condition, rest: usize) -> Vec<Instruction> {
    let Condition { argument, operator, value } = condition;
    let (high, low) = ((value >> 32) as u32, (value & 0xffff_ffff) as u32);
    let (low_at, high_at) = if cfg!(target_endian = "big") { (4, 0) } else { (0, 4) };
    let load = |at: u32| plain(LOAD, 16 + 8 * argument + at);
    // At most six conditions of one rule, each shorter than ten: one byte is enough.
    let no = |behind: usize| u8::try_from(rest + behind).unwrap_or(u8::MAX);
    match operator {
        Operator::Equal => vec![
            load(high_at),
            branch(JUMP_EQUAL, high, 0, no(2)),
            load(low_at),
            branch(JUMP_EQUAL, low, 0, no(0)),
        ],
        Operator::NotEqual => vec![
            load(high_at),
            branch(JUMP_EQUAL, high, 0, 2),
            load(low_at),
            branch(JUMP_EQUAL, low, no(0), 0),
        ],
        Operator::MaskedEqual(mask) => vec![
            load(high_at),
            plain(AND, (mask >> 32) as u32),
            branch(JUMP_EQUAL, high, 0, no(3)),
            load(low_at),
            plain(AND, (mask & 0xffff_ffff) as u32),
            branch(JUMP_EQUAL, low, 0, no(0)),
        ],
        Operator::Greater => vec![
            load(high_at),
            branch(JUMP_ABOVE, high, 3, 0),
            branch(JUMP_EQUAL, high, 0, no(2)),
            load(low_at),
            branch(JUMP_ABOVE, low, 0, no(0)),
        ],
        Operator::GreaterOrEqual => vec![
            load(high_at),
            branch(JUMP_ABOVE, high, 3, 0),
            branch(JUMP_EQUAL, high, 0, no(2)),
            load(low_at),
            branch(JUMP_AT_LEAST, low, 0, no(0)),
        ],
        Operator::Less => vec![
            load(high_at),
            branch(JUMP_ABOVE, high, no(3), 0),
            branch(JUMP_EQUAL, high, 0, 2),
            load(low_at),
            branch(JUMP_AT_LEAST, low, no(0), 0),
        ],
        Operator::LessOrEqual => vec![
            load(high_at),
            branch(JUMP_ABOVE, high, no(3), 0),
            branch(JUMP_EQUAL, high, 0, 2),
            load(low_at),
            branch(JUMP_ABOVE, low, no(0), 0),
        ],
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
                    offset => {
                        let argument = arguments[(offset as usize - 16) / 8];
                        if offset % 8 == 0 {
                            (argument & 0xffff_ffff) as u32
                        } else {
                            (argument >> 32) as u32
                        }
                    }
                }
            }
            JUMP => at += now.value as usize,
            JUMP_EQUAL => at += jump(accumulator == now.value),
            JUMP_ABOVE => at += jump(accumulator > now.value),
            AND => accumulator &= now.value,
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
        /// Every operator says of every pair of numbers what the processor does.
        #[test]
        fn operators_compare_all_64_bits(
            argument in prop_oneof![any::<u64>(), 0_u64..4, (0_u64..4).prop_map(|high| high << 32 | 1)],
            value in prop_oneof![any::<u64>(), 0_u64..4, (0_u64..4).prop_map(|high| high << 32 | 1)],
            mask: u64,
        ) {
            for (operator, holds) in [
                (Operator::Equal, argument == value),
                (Operator::NotEqual, argument != value),
                (Operator::Less, argument < value),
                (Operator::LessOrEqual, argument <= value),
                (Operator::Greater, argument > value),
                (Operator::GreaterOrEqual, argument >= value),
                (Operator::MaskedEqual(mask), argument & mask == value),
            ] {
                let condition = Condition { argument: 2, operator, value };
                let always = Condition { argument: 0, operator: Operator::Equal, value: 7 };
                for conditions in [vec![condition], vec![condition, always], vec![always, condition]] {
                    let mut filter = Filter::new(Action::Return(9));
                    let never = Condition { argument: 0, operator: Operator::NotEqual, value: 7 };
                    filter.set(5, Action::Rules(vec![
                        Rule { conditions: vec![never], verdict: 1 },
                        Rule { conditions, verdict: 3 },
                    ]));
                    let program = filter.compile(7, false);
                    let verdict = evaluate(&program, 7, 5, [7, 0, argument, 0, 0, 0]);
                    prop_assert_eq!(verdict, if holds { 3 } else { 9 }, "{:?} {} {}", operator, argument, value);
                }
            }
        }

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
