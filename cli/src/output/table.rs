//! Tables as Docker writes them: columns padded with three spaces, no borders.

const GAP: usize = 3;

/// The lines of a table; every row has as many cells as there are headers.
pub(crate) fn render<'a>(headers: &[&'a str], rows: impl Iterator<Item = Vec<&'a str>>) -> String {
    let lines: Vec<Vec<String>> = std::iter::once(headers.to_vec())
        .chain(rows)
        .map(|row| row.into_iter().map(one_line).collect())
        .collect();
    let widths: Vec<usize> =
        (0..headers.len()).map(|at| lines.iter().map(|line| width(&line[at])).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, wanted) in line.iter().zip(&widths) {
            row.push_str(cell);
            row.extend(std::iter::repeat_n(' ', wanted + GAP - width(cell)));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

fn one_line(cell: &str) -> String {
    cell.replace(['\n', '\t'], " ")
}

/// The text, cut with an ellipsis to so many characters.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_are_not_padded() {
        let text = render(&["ID", "NAME"], [vec!["abcdef", "x"], vec!["ä", ""]].into_iter());
        assert_eq!(text, "ID       NAME\nabcdef   x\nä\n");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
    }
}
