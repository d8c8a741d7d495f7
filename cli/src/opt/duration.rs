//! Durations as Docker writes them: `1m30s`, `500ms`, `1.5h`. A bare number has no unit and is refused, except `0`.

use std::time::Duration;

use super::FlagError;
use super::bytes::scaled;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration for the flag `field`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(field: &str, text: &str) -> Result<Duration, FlagError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    total(text).map(Duration::from_nanos).ok_or_else(|| {
        FlagError::new(field, text, "use numbers with the units ns, us, ms, s, m or h, such as 1m30s")
    })
}

/// A parser for clap.
pub(crate) fn parser(
    field: &'static str,
) -> impl Fn(&str) -> Result<Duration, FlagError> + Clone + Send + Sync + 'static {
    move |text| parse(field, text)
}

/// A duration, or none where the flag can say that there is to be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Perhaps(pub Option<Duration>);

/// A parser for clap of a duration or `none`.
pub(crate) fn perhaps(
    field: &'static str,
) -> impl Fn(&str) -> Result<Perhaps, FlagError> + Clone + Send + Sync + 'static {
    move |text| match text {
        "none" => Ok(Perhaps(None)),
        _ => parse(field, text).map(|duration| Perhaps(Some(duration))),
    }
}

fn total(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut nanos = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(scaled(number, *size)?)?;
        rest = next;
    }
    (!text.is_empty()).then_some(nanos)
}

/// The duration as Docker writes it.
pub(crate) fn render(nanos: u64) -> String {
    let (hours, rest) = (nanos / UNITS[7].1, nanos % UNITS[7].1);
    let (minutes, rest) = (rest / UNITS[6].1, rest % UNITS[6].1);
    let seconds = |nanos: u64| crate::opt::cpus::render(nanos);
    match (hours, minutes, rest) {
        (0, 0, 0) => "0s".to_owned(),
        (0, 0, 1..1_000) => format!("{rest}ns"),
        (0, 0, 1_000..1_000_000) => fraction(rest, 1_000, "µs"),
        (0, 0, 1_000_000..1_000_000_000) => fraction(rest, 1_000_000, "ms"),
        (0, 0, _) => format!("{}s", seconds(rest)),
        (0, _, _) => format!("{minutes}m{}s", seconds(rest)),
        _ => format!("{hours}h{minutes}m{}s", seconds(rest)),
    }
}

fn fraction(nanos: u64, unit: u64, name: &str) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", nanos / unit, nanos % unit);
    format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_docker_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("2h0m1s", 7_201_000_000_000),
        ] {
            assert_eq!(parse("restart-delay", text).map(|d| d.as_nanos()), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refusals_name_flag_and_value() {
        for text in ["", "5", "-1s", "1x", "s", "1s5", "1 s", "9999999999h", "1..5s"] {
            let error = parse("restart-delay", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("restart-delay: invalid value {text:?}: use ")), "{error}");
        }
    }

    #[test]
    fn durations_are_written_as_docker_writes_them() {
        for text in ["0s", "1ns", "1.5µs", "10ms", "1.5s", "1m30s", "2h0m1s", "720h0m0s"] {
            let nanos = parse("x", text).unwrap().as_nanos();
            assert_eq!(render(u64::try_from(nanos).unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos: u64) {
            prop_assert_eq!(parse("x", &render(nanos)), Ok(Duration::from_nanos(nanos)));
        }
    }
}
