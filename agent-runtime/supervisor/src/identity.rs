//! Who the program runs as, from the image's own passwd and group files.

use crate::error::{CallError, InCall};
use crate::resolve;
use coracle_runtime_protocol::FailureKind;
use rustix::fd::BorrowedFd;
use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;
use std::io::Read;

/// More than any sensible user database; an image cannot make us read without end.
const FILE_LIMIT: u64 = 4 << 20;
/// Numbers above are refused, as Docker does.
const HIGHEST_ID: u32 = i32::MAX as u32;

/// Numbers for setresuid, setresgid and setgroups, and the home directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// All supplementary groups, the primary one included (CVE-2022-36109).
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Resolves names in the image that is mounted at `root`.
pub(crate) fn resolve(
    root: BorrowedFd<'_>,
    user: &str,
    group: Option<&str>,
    additional_groups: &[String],
) -> Result<Identity, CallError> {
    let passwd = read(root, "/etc/passwd")?;
    let groups = read(root, "/etc/group")?;
    lookup(&passwd, &groups, user, group, additional_groups)
        .map_err(|why| CallError::refused(FailureKind::UnknownUser, why))
}

fn read(root: BorrowedFd<'_>, path: &str) -> Result<String, CallError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match resolve::open_in_root(root, path, flags, ResolveFlags::IN_ROOT) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        result => result.in_call(|| format!("openat2({path:?})"))?,
    };
    let file = std::fs::File::from(file);
    if !file.metadata().in_call(|| format!("fstat({path:?})"))?.is_file() {
        return Err(CallError::refused(
            FailureKind::RefusedRootfs,
            format!("{path} in the image is not a file"),
        ));
    }
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT).read_to_end(&mut bytes).in_call(|| format!("read({path:?})"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Account<'a> {
    name: &'a str,
    user: u32,
    group: u32,
    home: &'a str,
}

fn lookup(
    passwd: &str,
    group_file: &str,
    user: &str,
    group: Option<&str>,
    additional_groups: &[String],
) -> Result<Identity, String> {
    let user = if user.is_empty() { "0" } else { user };
    let number = number(user)?;
    let account = passwd.lines().filter_map(account).find(|account| match number {
        Some(number) => account.user == number,
        None => account.name == user,
    });
    let uid = match (&account, number) {
        (Some(account), _) => account.user,
        (None, Some(number)) => number,
        (None, None) => {
            return Err(format!("user {user:?} is not in the image's /etc/passwd; add it or use a number"));
        }
    };
    let gid = match group {
        Some(group) => group_number(group_file, group)?,
        None => account.as_ref().map_or(0, |account| account.group),
    };
    let mut groups = vec![gid];
    // A group given by hand replaces the memberships of the account, as Docker has it.
    if let (Some(account), None) = (&account, group) {
        groups.extend(memberships(group_file, account.name));
    }
    for name in additional_groups {
        groups.push(group_number(group_file, name)?);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = account.map_or("/", |account| if account.home.is_empty() { "/" } else { account.home });
    Ok(Identity { user: uid, group: gid, groups, home: home.to_owned() })
}

/// `Some` for digits only. Something that merely begins like a number (`+1`, `1000:`) is no name either.
fn number(text: &str) -> Result<Option<u32>, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(number) if number <= HIGHEST_ID => Ok(Some(number)),
            _ => Err(format!("id {text} is not between 0 and {HIGHEST_ID}")),
        };
    }
    if text.is_empty() || text.contains([':', '\n', '/']) || text.starts_with(['+', '-']) {
        return Err(format!("{text:?} is neither a name nor a number; write a name, or digits only"));
    }
    Ok(None)
}

/// A number in one of the files. The image is not trusted with numbers that a user could not ask for either: the highest
/// one would even mean "unchanged" to the kernel.
fn entry_id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= HIGHEST_ID)
}

fn group_number(group_file: &str, group: &str) -> Result<u32, String> {
    if let Some(number) = number(group)? {
        return Ok(number);
    }
    let mut fields = group_file.lines().map(|line| line.split(':'));
    fields
        .find_map(|mut fields| if fields.next() == Some(group) { entry_id(fields.nth(1)?) } else { None })
        .ok_or_else(|| format!("group {group:?} is not in the image's /etc/group; add it or use a number"))
}

fn memberships<'a>(group_file: &'a str, name: &'a str) -> impl Iterator<Item = u32> + 'a {
    group_file.lines().filter_map(move |line| {
        let mut fields = line.split(':');
        let number = entry_id(fields.nth(2)?)?;
        fields.next()?.split(',').any(|member| member.trim() == name).then_some(number)
    })
}

fn account(line: &str) -> Option<Account<'_>> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let user = entry_id(fields.nth(1)?)?;
    let group = entry_id(fields.next()?)?;
    let home = fields.nth(1).unwrap_or("/");
    (!name.is_empty()).then_some(Account { name, user, group, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:33:44::/srv/web:\n0:x:7:7::/zero:\n\
        high:x:4294967295:1::/:\nhighgroup:x:9:4294967295::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:44:\nlog:x:50:web,other\nextra:x:60:\nmost:x:2147483648:web\n";

    fn run(user: &str, group: Option<&str>, more: &[&str]) -> Result<(u32, u32, Vec<u32>, String), String> {
        let more: Vec<String> = more.iter().map(|&name| name.to_owned()).collect();
        lookup(PASSWD, GROUP, user, group, &more)
            .map(|identity| (identity.user, identity.group, identity.groups, identity.home))
    }

    #[test]
    fn matrix() {
        assert_eq!(run("", None, &[]).unwrap(), (0, 0, vec![0], "/root".into()));
        assert_eq!(run("web", None, &[]).unwrap(), (33, 44, vec![44, 50], "/srv/web".into()));
        assert_eq!(run("33", None, &["extra"]).unwrap(), (33, 44, vec![44, 50, 60], "/srv/web".into()));
        assert_eq!(run("web", Some("extra"), &[]).unwrap(), (33, 60, vec![60], "/srv/web".into()));
        assert_eq!(run("1000", None, &[]).unwrap(), (1000, 0, vec![0], "/".into()));
        assert_eq!(run("1000", Some("1001"), &["5"]).unwrap(), (1000, 1001, vec![5, 1001], "/".into()));
        // A user whose name is a number cannot stand in for that number.
        assert_eq!(run("0", None, &[]).unwrap().0, 0);
        for bad in ["nobody", "high", "highgroup", "+1", "-1", "1000:", "4294967296", "2147483648", "web\n"] {
            assert!(run(bad, None, &[]).is_err(), "{bad:?}");
        }
        for bad in ["", "nogroup", "most", "+1"] {
            assert!(run("0", Some(bad), &[]).is_err(), "{bad:?}");
        }
    }
}
