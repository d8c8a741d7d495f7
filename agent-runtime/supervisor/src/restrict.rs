//! The last step: become the user, with as few privileges as the plan says.

use crate::error::{CallError, InCall};
use crate::identity::Identity;
use crate::sys;
use coracle_runtime_protocol::{Credentials, FailureKind};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

/// Order matters. The bounding set goes while CAP_SETPCAP is there; groups before the user, who may not change them;
/// the seccomp filter last, but before CAP_SYS_ADMIN is lost where no-new-privileges does not stand in for it.
pub(crate) fn restrict(credentials: &Credentials, identity: &Identity) -> Result<(), CallError> {
    drop_bounding_set(credentials.capabilities)?;
    rustix::thread::clear_ambient_capability_set().in_call(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)".into())?;
    let filter = credentials.seccomp.as_deref().map(decode).transpose()?;
    if !credentials.no_new_privileges {
        install(filter.as_deref())?;
    }
    become_user(identity)?;
    // A user other than root got no capability from the kernel at setresuid, and none is added here.
    let held = if identity.user == 0 { credentials.capabilities } else { 0 };
    sys::set_capabilities(held).in_call(|| format!("capset({held:#x})"))?;
    if credentials.no_new_privileges {
        rustix::thread::set_no_new_privs(true).in_call(|| "prctl(PR_SET_NO_NEW_PRIVS)".into())?;
        install(filter.as_deref())?;
    }
    Ok(())
}

fn drop_bounding_set(keep: u64) -> Result<(), CallError> {
    for capability in (0..64).filter(|capability| keep & (1 << capability) == 0) {
        match sys::drop_from_bounding_set(capability) {
            // Above the last capability that this kernel knows.
            Err(Errno::INVAL) => {}
            result => result.in_call(|| format!("prctl(PR_CAPBSET_DROP, {capability})"))?,
        }
    }
    Ok(())
}

fn become_user(identity: &Identity) -> Result<(), CallError> {
    let groups: Vec<Gid> = identity.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    rustix::thread::set_thread_groups(&groups).in_call(|| format!("setgroups({:?})", identity.groups))?;
    let group = Gid::from_raw(identity.group);
    rustix::thread::set_thread_res_gid(group, group, group)
        .in_call(|| format!("setresgid({})", identity.group))?;
    let user = Uid::from_raw(identity.user);
    rustix::thread::set_thread_res_uid(user, user, user).in_call(|| format!("setresuid({})", identity.user))
}

fn install(filter: Option<&[u8]>) -> Result<(), CallError> {
    match filter {
        None => Ok(()),
        Some(filter) => sys::install_seccomp(filter).in_call(|| "seccomp(SECCOMP_SET_MODE_FILTER)".into()),
    }
}

fn decode(digits: &str) -> Result<Vec<u8>, CallError> {
    let broken =
        || CallError::refused(FailureKind::Other, "the seccomp filter of the plan is not hexadecimal");
    let nibble = |digit: u8| (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some((nibble(*high)? << 4) | nibble(*low)?),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(broken)
}
