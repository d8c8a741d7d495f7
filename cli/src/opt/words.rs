//! A text split into words as a shell does it: quotes, backslashes, nothing else.

use super::FlagError;

/// Splits the value of the flag `field`.
///
/// Single quotes keep everything; within double quotes a backslash quotes `"`, `\`, `$` and a backquote (POSIX shell,
/// section 2.2); elsewhere it quotes the next character.
///
/// # Errors
/// When a quote is not closed, or a backslash is the last character.
pub(crate) fn split(field: &str, text: &str) -> Result<Vec<String>, FlagError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    let unclosed = |what: &str| FlagError::new(field, text, format!("{what} is not closed"));
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => single_quoted(&mut characters, word.get_or_insert_default())
                .ok_or_else(|| unclosed("a single quote"))?,
            '"' => double_quoted(&mut characters, word.get_or_insert_default())
                .ok_or_else(|| unclosed("a double quote"))?,
            '\\' => {
                let next = characters
                    .next()
                    .ok_or_else(|| FlagError::new(field, text, "nothing follows the last backslash"))?;
                word.get_or_insert_default().push(next);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(characters: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    for character in characters {
        if character == '\'' {
            return Some(());
        }
        word.push(character);
    }
    None
}

fn double_quoted(characters: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(()),
            '\\' => {
                let next = characters.next()?;
                if !matches!(next, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(next);
            }
            other => word.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (text, words) in [
            ("", vec![]),
            ("  a  b ", vec!["a", "b"]),
            ("sh -c 'echo $A \"x\"'", vec!["sh", "-c", "echo $A \"x\""]),
            (r#"a\ b "c \" d" e"#, vec!["a b", "c \" d", "e"]),
            (r#""a\nb""#, vec!["a\\nb"]),
            ("''", vec![""]),
            ("a'b'\"c\"d", vec!["abcd"]),
        ] {
            assert_eq!(split("args", text).unwrap(), words, "{text}");
        }
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        for text in ["'a", "\"a", "a\\", "\"a\\"] {
            let error = split("args", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("args: invalid value {text:?}: ")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_read_back(words in prop::collection::vec("[^']{0,8}", 0..5)) {
            let text: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
            prop_assert_eq!(split("x", &text.join(" ")).unwrap(), words);
        }
    }
}
