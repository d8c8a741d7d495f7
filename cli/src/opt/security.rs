//! `--security-opt`: what confines a container.

use coracle_proto::v1;

use super::{FlagError, boolean};

/// One option as it was given; a profile is a path of this machine until it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecurityOption {
    /// Programs may not gain privileges by being executed.
    NoNewPrivileges(bool),
    /// `unconfined`, `builtin` or a path.
    Seccomp(String),
    /// `unconfined`, `default` or a profile's name.
    AppArmor(String),
    /// `disable`, `KEY:VALUE`, or empty for none of those that there were.
    Label(String),
}

/// Reads the value of `--security-opt`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(text: &str) -> Result<SecurityOption, FlagError> {
    // Docker takes `key=value` and, from older days, `key:value`.
    let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    let needed = || {
        value
            .map(str::to_owned)
            .ok_or_else(|| FlagError::new("security-opt", text, format!("write {key}=VALUE")))
    };
    match key {
        "no-new-privileges" => {
            let on = value.map_or(Ok(true), |value| boolean::parse("security-opt", value))?;
            Ok(SecurityOption::NoNewPrivileges(on))
        }
        "seccomp" => needed().map(SecurityOption::Seccomp),
        "apparmor" => needed().map(SecurityOption::AppArmor),
        "label" => needed().map(SecurityOption::Label),
        _ => Err(FlagError::new(
            "security-opt",
            text,
            "use no-new-privileges[=BOOLEAN], seccomp=PROFILE, apparmor=PROFILE or label=OPTION",
        )),
    }
}

/// Sets what was given.
///
/// # Errors
/// When a profile cannot be read.
pub(crate) fn apply(options: &[SecurityOption], privileges: &mut v1::Privileges) -> Result<(), FlagError> {
    if options.iter().any(|option| matches!(option, SecurityOption::Label(_))) {
        privileges.selinux.clear();
    }
    for option in options {
        match option {
            SecurityOption::NoNewPrivileges(on) => privileges.new_privileges = !on,
            SecurityOption::Seccomp(profile) => privileges.seccomp = seccomp(profile)?,
            SecurityOption::AppArmor(profile) if profile == "default" => privileges.apparmor.clear(),
            SecurityOption::AppArmor(profile) => privileges.apparmor.clone_from(profile),
            SecurityOption::Label(label) if label.is_empty() => {}
            SecurityOption::Label(label) => privileges.selinux.push(label.clone()),
        }
    }
    Ok(())
}

fn seccomp(profile: &str) -> Result<String, FlagError> {
    match profile {
        "builtin" => Ok(String::new()),
        "unconfined" => Ok(profile.to_owned()),
        path => std::fs::read_to_string(path).map_err(|error| {
            FlagError::new(
                "security-opt",
                format!("seccomp={path}"),
                format!("cannot read the profile: {error}"),
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(texts: &[&str]) -> v1::Privileges {
        let options: Vec<_> = texts.iter().map(|text| parse(text).unwrap()).collect();
        let mut privileges = v1::Privileges { selinux: vec!["type:old".to_owned()], ..Default::default() };
        apply(&options, &mut privileges).unwrap();
        privileges
    }

    #[test]
    fn options_are_set_one_by_one() {
        let privileges = applied(&["no-new-privileges:false", "seccomp=unconfined", "apparmor=web"]);
        assert!(privileges.new_privileges);
        assert_eq!((privileges.seccomp.as_str(), privileges.apparmor.as_str()), ("unconfined", "web"));
        assert_eq!(privileges.selinux, ["type:old"]);
        assert!(!applied(&["no-new-privileges"]).new_privileges);
        assert_eq!(applied(&["label=type:web", "label=level:s0:c1"]).selinux, ["type:web", "level:s0:c1"]);
        assert!(applied(&["label="]).selinux.is_empty());
        assert_eq!(applied(&["seccomp=builtin", "apparmor=default"]).seccomp, "");
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        for text in ["seccomp", "systempaths=unconfined", "", "no-new-privileges=maybe"] {
            assert!(parse(text).unwrap_err().to_string().starts_with("security-opt: invalid value "));
        }
        let mut privileges = v1::Privileges::default();
        let missing = [SecurityOption::Seccomp("/nowhere/profile.json".to_owned())];
        let error = apply(&missing, &mut privileges).unwrap_err().to_string();
        assert!(error.contains("seccomp=/nowhere/profile.json") && error.contains("cannot read"), "{error}");
    }
}
