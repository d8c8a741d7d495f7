//! Profiles as JSON: `linux.seccomp` of the OCI runtime specification 1.2 (config-linux.md), with what Docker adds to it
//! (`archMap`, and rules for some capabilities, architectures and kernels only).
//!
//! Nothing that a profile says is left out silently, but for calls to be allowed that this architecture does not have.
//! Of several rules for a call the first that applies counts. Other instruction sets than the native one stay shut.

use super::compile::{Action, Condition, Filter, Operator, Rule};
use super::names;
use crate::capability::Capabilities;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The kernel takes 4096 instructions (linux/bpf_common.h, `BPF_MAXINSNS`).
const MOST_INSTRUCTIONS: usize = 4096;
/// What a filter may return as an error number (linux/seccomp.h, `SECCOMP_RET_DATA` capped by MAX_ERRNO).
const HIGHEST_ERROR: u32 = 4095;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    arch_map: Vec<Architecture>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    listener_path: String,
    #[serde(default, rename = "listenerMetadata")]
    _listener_metadata: String,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Architecture {
    architecture: String,
    #[serde(default, rename = "subArchitectures")]
    _sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    /// Docker's older form.
    #[serde(default)]
    name: Option<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<When>,
    #[serde(default)]
    excludes: Option<When>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Docker's conditions: of an architecture any, of capabilities all, and a kernel at least.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct When {
    arches: Option<Vec<String>>,
    caps: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// A profile's filter, or why it has none.
pub(super) fn parse(text: &str, capabilities: Capabilities) -> Result<Filter, String> {
    let profile: Profile = serde_json::from_str(text)
        .map_err(|error| format!("it is no seccomp profile of the OCI runtime specification: {error}"))?;
    whole(&profile)?;
    let default = verdict(&profile.default_action, profile.default_errno_ret)?;
    let mut rules: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for entry in &profile.syscalls {
        let verdict = verdict(&entry.action, entry.errno_ret)?;
        let conditions = conditions(entry.args.as_deref().unwrap_or_default())?;
        if !applies(entry, capabilities)? {
            continue;
        }
        for name in entry.names.iter().chain(&entry.name) {
            let rule = Rule { conditions: conditions.clone(), verdict };
            rules.entry(name.clone()).or_default().push(rule);
        }
    }
    let mut filter = Filter::new(Action::Return(default));
    for (name, rules) in rules {
        match names::number(&name) {
            Some(number) => filter.set(number, Action::Rules(rules)),
            None if rules.iter().all(|rule| rule.verdict == ALLOW) => {}
            None => {
                return Err(format!(
                    "it refuses the call {name:?}, which is not known on this architecture; take it out of the profile"
                ));
            }
        }
    }
    let length = filter.compile(super::syscalls::NATIVE_ARCHITECTURE, true).len();
    if length > MOST_INSTRUCTIONS {
        return Err(format!("it becomes {length} instructions, and the kernel takes {MOST_INSTRUCTIONS}"));
    }
    Ok(filter)
}

/// What stands outside of the rules.
fn whole(profile: &Profile) -> Result<(), String> {
    let native = if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };
    let of_map = profile.arch_map.iter().map(|entry| &entry.architecture);
    let mut named = profile.architectures.iter().chain(of_map).peekable();
    if named.peek().is_some() && !named.any(|name| name == native) {
        return Err(format!("it is not for this node's architecture, {native}"));
    }
    // One thread only is filtered, before it executes the program.
    if let Some(flag) = profile.flags.iter().find(|flag| *flag != "SECCOMP_FILTER_FLAG_TSYNC") {
        return Err(format!("the flag {flag} is not supported"));
    }
    if !profile.listener_path.is_empty() {
        return Err("a listenerPath is not supported".into());
    }
    Ok(())
}

/// `SECCOMP_RET_ALLOW`
const ALLOW: u32 = 0x7fff_0000;

/// The `SECCOMP_RET_*` value of an action (linux/seccomp.h).
fn verdict(action: &str, error: Option<u32>) -> Result<u32, String> {
    let error = error.unwrap_or(libc::EPERM.cast_unsigned());
    if error > HIGHEST_ERROR {
        return Err(format!("the error number {error} is above {HIGHEST_ERROR}"));
    }
    match action {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(0),
        "SCMP_ACT_KILL_PROCESS" => Ok(0x8000_0000),
        "SCMP_ACT_TRAP" => Ok(0x0003_0000),
        "SCMP_ACT_ERRNO" => Ok(0x0005_0000 | error),
        "SCMP_ACT_LOG" => Ok(0x7ffc_0000),
        "SCMP_ACT_ALLOW" => Ok(ALLOW),
        other => Err(format!(
            "the action {other:?} is not supported; use SCMP_ACT_ALLOW, _ERRNO, _LOG, _TRAP, _KILL or _KILL_PROCESS"
        )),
    }
}

fn conditions(arguments: &[Argument]) -> Result<Vec<Condition>, String> {
    if arguments.len() > 6 {
        return Err("a rule compares more than six arguments".into());
    }
    let mut compared = BTreeSet::new();
    if let Some(argument) = arguments.iter().find(|argument| !compared.insert(argument.index)) {
        // With runc any one of such comparisons is enough, and with others all have to hold.
        return Err(format!(
            "a rule compares argument {} more than once, which does not mean the same everywhere; write a rule for each",
            argument.index
        ));
    }
    arguments.iter().map(condition).collect()
}

fn condition(argument: &Argument) -> Result<Condition, String> {
    if argument.index > 5 {
        return Err(format!(
            "there is no argument {} of a call; they are counted from 0 to 5",
            argument.index
        ));
    }
    let (operator, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (Operator::Equal, argument.value),
        "SCMP_CMP_NE" => (Operator::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Operator::Less, argument.value),
        "SCMP_CMP_LE" => (Operator::LessOrEqual, argument.value),
        "SCMP_CMP_GE" => (Operator::GreaterOrEqual, argument.value),
        "SCMP_CMP_GT" => (Operator::Greater, argument.value),
        "SCMP_CMP_MASKED_EQ" => (Operator::MaskedEqual(argument.value), argument.value_two),
        other => return Err(format!("the comparison {other:?} is unknown")),
    };
    Ok(Condition { argument: argument.index, operator, value })
}

fn applies(entry: &Entry, capabilities: Capabilities) -> Result<bool, String> {
    let included = entry.includes.as_ref().map_or(Ok(true), |when| holds(when, capabilities, true))?;
    let excluded = entry.excludes.as_ref().map_or(Ok(false), |when| holds(when, capabilities, false))?;
    Ok(included && !excluded)
}

/// All parts must hold for an inclusion; for an exclusion any one is enough, so `all` says what an empty part is.
fn holds(when: &When, capabilities: Capabilities, all: bool) -> Result<bool, String> {
    let mut parts = Vec::new();
    let native = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let present = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    if let Some(arches) = present(&when.arches) {
        parts.push(arches.iter().any(|arch| arch == native));
    }
    if let Some(caps) = present(&when.caps) {
        let wanted =
            Capabilities::none().with(caps.iter().map(String::as_str)).map_err(|error| error.to_string())?;
        let has = |wanted: Capabilities| wanted.missing_from(capabilities) == Capabilities::none();
        parts.push(if all { has(wanted) } else { wanted.intersection(capabilities) != Capabilities::none() });
    }
    if let Some(kernel) = &when.min_kernel {
        let wanted = version(kernel).ok_or_else(|| format!("minKernel {kernel:?} is no version"))?;
        let running = rustix::system::uname().release().to_string_lossy().into_owned();
        parts.push(version(&running).is_none_or(|running| running >= wanted));
    }
    Ok(if all { parts.iter().all(|part| *part) } else { parts.iter().any(|part| *part) })
}

/// The first two numbers.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::compile::evaluate;
    use super::super::syscalls::NATIVE_ARCHITECTURE;
    use super::*;

    const EPERM: u32 = 0x0005_0001;

    fn run(profile: &str, call: libc::c_long, arguments: [u64; 6]) -> u32 {
        let program = parse(profile, Capabilities::container_default())
            .unwrap()
            .compile(NATIVE_ARCHITECTURE, cfg!(target_arch = "x86_64"));
        evaluate(&program, NATIVE_ARCHITECTURE, u32::try_from(call).unwrap(), arguments)
    }

    #[test]
    fn rules_are_followed_in_order() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":13,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],
            "syscalls":[
            {"names":["mkdirat"],"action":"SCMP_ACT_ERRNO"},
            {"names":["unlinkat"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
            {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":1,"args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"}]},
            {"names":["socket"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":0,"value":38,"op":"SCMP_CMP_GE"}]},
            {"names":["clone"],"action":"SCMP_ACT_ERRNO","errnoRet":1,
                "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        assert_eq!(run(profile, libc::SYS_read, [0; 6]), ALLOW);
        // The number of the default action is not that of the rules.
        assert_eq!(run(profile, libc::SYS_mkdirat, [0; 6]), EPERM);
        assert_eq!(run(profile, libc::SYS_unlinkat, [0; 6]), 0x0005_0026);
        assert_eq!(run(profile, libc::SYS_socket, [16, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(run(profile, libc::SYS_socket, [40, 0, 0, 0, 0, 0]), 0x8000_0000);
        assert_eq!(run(profile, libc::SYS_socket, [2, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(profile, libc::SYS_clone, [0x11, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(run(profile, libc::SYS_clone, [0x2000_0000, 0, 0, 0, 0, 0]), ALLOW);
    }

    #[test]
    fn dockers_additions() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[
            {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
            {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":null}],"syscalls":[
            {"names":["read","s390_pci_mmio_read"],"action":"SCMP_ACT_ALLOW"},
            {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["chroot"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_CHROOT"]}},
            {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","args":null,"includes":{"minKernel":"4.8"}},
            {"names":["kcmp"],"action":"SCMP_ACT_ALLOW","comment":"","includes":{"minKernel":"99.1"}},
            {"names":["umount2"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390"]}}]}"#;
        assert_eq!(run(profile, libc::SYS_read, [0; 6]), ALLOW);
        assert_eq!(run(profile, libc::SYS_mount, [0; 6]), EPERM);
        assert_eq!(run(profile, libc::SYS_chroot, [0; 6]), ALLOW);
        assert_eq!(run(profile, libc::SYS_clone3, [0; 6]), 0x0005_0026);
        assert_eq!(run(profile, libc::SYS_ptrace, [0; 6]), ALLOW);
        assert_eq!(run(profile, libc::SYS_kcmp, [0; 6]), EPERM);
        assert_eq!(run(profile, libc::SYS_umount2, [0; 6]), EPERM);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (profile, why) in [
            ("no json", "no seccomp profile"),
            (r#"{"syscalls":[]}"#, "defaultAction"),
            (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
            (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000}"#, "70000"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390"]}"#, "architecture"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}"#, "FLAG_LOG"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","novelty":1}"#, "novelty"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["nocall"],"action":"SCMP_ACT_ERRNO"}]}"#,
                "nocall",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
                "argument 6",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":1,"value":1,"op":"SCMP_CMP_LIKE"}]}]}"#,
                "SCMP_CMP_LIKE",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"},{"index":0,"value":17,"op":"SCMP_CMP_EQ"}]}]}"#,
                "argument 0 more than once",
            ),
        ] {
            let error = parse(profile, Capabilities::none()).unwrap_err();
            assert!(error.contains(why), "{profile}: {error}");
        }
    }
}
