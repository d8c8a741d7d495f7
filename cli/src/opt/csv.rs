//! Values of several fields: one record of CSV (RFC 4180), so that a field with a comma can be quoted.

/// The fields of one record; nothing when a quote is not closed.
pub(crate) fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut()?;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    (!quoted).then_some(fields)
}

/// A field as it is written, quoted where it must be.
pub(crate) fn field(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Sets a field that may be given once.
///
/// # Errors
/// When it was given before.
pub(crate) fn once<T>(place: &mut Option<T>, key: &str, value: T) -> Result<(), String> {
    if place.is_some() {
        return Err(format!("{key} is given twice"));
    }
    *place = Some(value);
    Ok(())
}

/// Reads permission bits.
///
/// # Errors
/// Names the field and the value.
pub(crate) fn octal(key: &str, text: &str) -> Result<u32, String> {
    let good = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = if good { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("{key}={text}: use octal permission bits, such as 1777"))
}
