//! Variables of the environment: `KEY=VALUE`, or `KEY` to take the value from where the command runs.

use super::FlagError;

/// One variable as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Not empty.
    pub key: String,
    /// None means the value that the command's own environment has.
    pub value: Option<String>,
}

/// Reads the value of `--env`.
///
/// # Errors
/// Names the flag and the value.
pub(crate) fn parse(text: &str) -> Result<Variable, FlagError> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.is_empty() {
        return Err(FlagError::new("env", text, "use KEY=VALUE, or KEY to pass on a variable"));
    }
    Ok(Variable { key: key.to_owned(), value })
}

impl Variable {
    /// `KEY=VALUE`; nothing when the value was to be passed on and there is none.
    pub(crate) fn resolve(&self, lookup: impl Fn(&str) -> Option<String>) -> Option<String> {
        let value = self.value.clone().or_else(|| lookup(&self.key))?;
        Some(format!("{}={value}", self.key))
    }
}

/// Reads variables from files: one in a line, `KEY=VALUE` or `KEY`; lines that are empty or begin with `#` say nothing.
///
/// # Errors
/// Names the file, and the line where it has a wrong one.
pub(crate) fn read_files(paths: &[std::path::PathBuf]) -> Result<Vec<Variable>, FlagError> {
    let mut variables = Vec::new();
    for path in paths {
        let refuse = |problem: String| FlagError::new("env-file", path.display(), problem);
        let text = std::fs::read_to_string(path)
            .map_err(|error| refuse(format!("cannot read the file: {error}")))?;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || refuse(format!("line {}: use KEY=VALUE, or KEY to pass on a variable", at + 1));
            let variable = parse(line).map_err(|_| wrong())?;
            if variable.key.contains(char::is_whitespace) {
                return Err(wrong());
            }
            variables.push(variable);
        }
    }
    Ok(variables)
}

/// Resolves all against the environment of this process.
pub(crate) fn resolve_all(variables: &[Variable]) -> Vec<String> {
    variables.iter().filter_map(|variable| variable.resolve(|key| std::env::var(key).ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_given_or_passed_on() {
        let lookup = |key: &str| (key == "HOME").then(|| "/root".to_owned());
        let resolved = |text: &str| parse(text).unwrap().resolve(lookup);
        assert_eq!(resolved("A=1"), Some("A=1".to_owned()));
        assert_eq!(resolved("A="), Some("A=".to_owned()));
        assert_eq!(resolved("A=b=c"), Some("A=b=c".to_owned()));
        assert_eq!(resolved("HOME"), Some("HOME=/root".to_owned()));
        assert_eq!(resolved("NOPE"), None);
    }

    #[test]
    fn files_have_a_variable_in_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        std::fs::write(&path, "# comment\n\nA=1 2\n  B\n").unwrap();
        let read = read_files(std::slice::from_ref(&path)).unwrap();
        assert_eq!(read, [parse("A=1 2").unwrap(), parse("B").unwrap()]);
        std::fs::write(&path, "A=1\nB C=2\n").unwrap();
        let error = read_files(&[path]).unwrap_err().to_string();
        assert!(error.starts_with("env-file: invalid value "), "{error}");
        assert!(error.ends_with("line 2: use KEY=VALUE, or KEY to pass on a variable"), "{error}");
        assert!(read_files(&["/nowhere/env".into()]).unwrap_err().to_string().contains("cannot read"));
    }

    #[test]
    fn a_variable_has_a_name() {
        for text in ["", "=1"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("env: invalid value {text:?}: use KEY=VALUE")), "{error}");
        }
    }
}
