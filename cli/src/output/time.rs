//! Times for people and for programs.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC; nothing for a time that was never set.
pub(crate) fn rfc3339(nanos: u64) -> Option<String> {
    if nanos == 0 {
        return None;
    }
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).ok().map(|time| time.to_string())
}

/// The same for people: whole seconds; empty for a time that was never set.
pub(crate) fn seconds(nanos: u64) -> String {
    rfc3339(nanos - nanos % 1_000_000_000).unwrap_or_default()
}

/// RFC 3339 in UTC with all nine digits, so that lines stay aligned.
pub(crate) fn rfc3339_nanos(nanos: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).map(|time| format!("{time:.9}")).unwrap_or_default()
}

/// `5 minutes ago`, in Docker's words.
pub(crate) fn ago(then: u64, now: u64) -> String {
    format!("{} ago", span(now.saturating_sub(then) / 1_000_000_000))
}

/// A span of whole seconds in Docker's words.
pub(crate) fn span(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0 => "less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        MINUTE..120 => "about a minute".to_owned(),
        120..HOUR => format!("{} minutes", seconds / MINUTE),
        HOUR..7200 => "about an hour".to_owned(),
        7200..172_800 => format!("{} hours", seconds / HOUR),
        172_800..1_209_600 => format!("{} days", seconds / DAY),
        1_209_600..5_184_000 => format!("{} weeks", seconds / (7 * DAY)),
        5_184_000..63_072_000 => format!("{} months", seconds / (30 * DAY)),
        _ => format!("{} years", seconds / (365 * DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_dockers() {
        for (seconds, text) in [
            (0, "less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "about a minute"),
            (119, "about a minute"),
            (120, "2 minutes"),
            (3600, "about an hour"),
            (7200, "2 hours"),
            (3 * 86400, "3 days"),
            (30 * 86400, "4 weeks"),
            (90 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn times_for_programs_are_rfc_3339() {
        assert_eq!(rfc3339(1_000_000_000), Some("1970-01-01T00:00:01Z".to_owned()));
        assert_eq!(rfc3339(0), None);
        assert_eq!((seconds(1_999_999_999), seconds(0)), ("1970-01-01T00:00:01Z".to_owned(), String::new()));
        assert_eq!(rfc3339_nanos(1_500_000_000), "1970-01-01T00:00:01.500000000Z");
    }
}
