//! Limits of processes: `nofile=1024:4096`; -1 is no limit.

use coracle_proto::v1;

use super::FlagError;

/// One limit as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UlimitFlag {
    /// Not empty.
    pub name: String,
    /// Its values.
    pub limit: v1::Ulimit,
}

/// Reads the value of `--ulimit`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(text: &str) -> Result<UlimitFlag, FlagError> {
    let refuse = || FlagError::new("ulimit", text, "use NAME=SOFT or NAME=SOFT:HARD, where -1 is no limit");
    let (name, values) = text.split_once('=').ok_or_else(refuse)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let limit = v1::Ulimit { soft: value(soft).ok_or_else(refuse)?, hard: value(hard).ok_or_else(refuse)? };
    if name.is_empty() {
        return Err(refuse());
    }
    Ok(UlimitFlag { name: name.to_ascii_lowercase(), limit })
}

fn value(text: &str) -> Option<u64> {
    match text {
        "-1" | "unlimited" => Some(u64::MAX),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

/// The values as they are given: `1024:4096`.
pub(crate) fn render(limit: &v1::Ulimit) -> String {
    let value = |value: u64| if value == u64::MAX { "-1".to_owned() } else { value.to_string() };
    format!("{}:{}", value(limit.soft), value(limit.hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        for (text, shown) in [
            ("nofile=1024:4096", "1024:4096"),
            ("NOFILE=7", "7:7"),
            ("core=0:-1", "0:-1"),
            ("as=unlimited", "-1:-1"),
        ] {
            assert_eq!(render(&parse(text).unwrap().limit), shown);
        }
        for text in ["nofile", "=1", "nofile=", "nofile=1:", "nofile=-2", "nofile=1:2:3", "nofile=1k"] {
            assert!(parse(text).unwrap_err().to_string().contains("use NAME=SOFT"), "{text}");
        }
    }
}
