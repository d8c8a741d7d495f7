//! Lines of a container's hosts file: `NAME:ADDRESS`.

use std::net::IpAddr;

use super::FlagError;

/// Reads the value of `--host`, and gives it as the hosts file has it: `ADDRESS NAME` (hosts(5)).
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(text: &str) -> Result<String, FlagError> {
    let refuse = || FlagError::new("host", text, "use NAME:ADDRESS, such as db:10.0.0.5 or db:2001:db8::5");
    let (name, address) = text.split_once(':').ok_or_else(refuse)?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = bare.parse().map_err(|_| refuse())?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(refuse());
    }
    Ok(format!("{address} {name}"))
}

/// Whether a removal, `NAME` or `NAME:ADDRESS`, means a line.
pub(crate) fn is_meant(line: &str, removal: &str) -> bool {
    match parse(removal) {
        Ok(exact) => line == exact,
        Err(_) => line.split_once(' ').is_some_and(|(_, name)| name == removal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_an_address() {
        assert_eq!(parse("db:10.0.0.5"), Ok("10.0.0.5 db".to_owned()));
        assert_eq!(parse("db:2001:db8::5"), Ok("2001:db8::5 db".to_owned()));
        assert_eq!(parse("db:[::1]"), Ok("::1 db".to_owned()));
        for text in ["db", "db:", ":10.0.0.5", "db:host", "a b:10.0.0.5"] {
            assert!(parse(text).unwrap_err().to_string().contains("use NAME:ADDRESS"), "{text}");
        }
        assert!(is_meant("10.0.0.5 db", "db") && is_meant("10.0.0.5 db", "db:10.0.0.5"));
        assert!(!is_meant("10.0.0.5 db", "db:10.0.0.6") && !is_meant("10.0.0.5 db", "10.0.0.5"));
    }
}
