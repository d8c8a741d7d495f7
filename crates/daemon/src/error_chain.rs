//! An error with all its causes, in one line.

use std::error::Error;
use std::fmt;

/// Prints an error and its causes, separated by colons. A cause whose whole text already ends the line
/// is not repeated: some libraries print their cause themselves.
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous = self.0.to_string();
        formatter.write_str(&previous)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !previous.ends_with(&text) {
                write!(formatter, ": {text}")?;
                previous = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let source = (texts.len() > 1).then(|| Box::new(layers(&texts[1..])));
        Layer { text: texts[0], source }
    }

    #[test]
    fn causes_follow_each_other_once() {
        let show = |texts: &[&'static str]| ErrorChain(&layers(texts)).to_string();
        assert_eq!(show(&["one"]), "one");
        assert_eq!(show(&["one", "two", "three"]), "one: two: three");
        assert_eq!(show(&["one: two", "two", "three"]), "one: two: three");
    }
}
