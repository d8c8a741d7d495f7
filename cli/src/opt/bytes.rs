//! Amounts of memory: `64m`, `1.5GiB`, `4096`. Units are powers of 1024, as Docker reads them.

use super::FlagError;

const UNITS: [(&str, u64); 5] =
    [("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40), ("p", 1 << 50)];

/// Reads an amount in bytes for the flag `field`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(field: &str, text: &str) -> Result<u64, FlagError> {
    let refuse = || FlagError::new(field, text, "use a number with a unit, such as 512k, 64m or 1.5GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = factor(unit.trim_start()).ok_or_else(refuse)?;
    scaled(number, factor).ok_or_else(refuse)
}

/// A parser for clap.
pub(crate) fn parser(
    field: &'static str,
) -> impl Fn(&str) -> Result<u64, FlagError> + Clone + Send + Sync + 'static {
    move |text| parse(field, text)
}

fn factor(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "" | "b") {
        return Some(1);
    }
    let letter = unit.get(..1)?;
    let rest = unit.get(1..)?;
    let known = UNITS.iter().find(|(name, _)| *name == letter)?;
    matches!(rest, "" | "b" | "ib").then_some(known.1)
}

/// `number × factor` without rounding errors of floating point; a fraction of a byte is cut off.
pub(super) fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction_value: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = u64::try_from(fraction_value * u128::from(factor) / scale).ok()?;
    whole.checked_mul(factor)?.checked_add(part)
}

/// The shortest text that reads back as the same amount: `64m`, `1025`.
#[cfg(test)]
fn render(bytes: u64) -> String {
    let unit = UNITS.iter().rev().find(|(_, size)| bytes != 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(|| bytes.to_string(), |(name, size)| format!("{}{name}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1b", 1),
            ("512k", 512 << 10),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("1.5GiB", 3 << 29),
            (".5g", 1 << 29),
            ("2 t", 2 << 40),
        ] {
            assert_eq!(parse("limit-memory", text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refusals_name_flag_and_value() {
        for text in ["", "-1", "x", "1x", "1mm", "1..2g", ".", "99999999p", "1e3"] {
            let error = parse("limit-memory", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("limit-memory: invalid value {text:?}: use ")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes: u64) {
            prop_assert_eq!(parse("x", &render(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,12}") {
            let _ = parse("x", &text);
        }
    }
}
