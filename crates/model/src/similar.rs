//! Which name somebody meant who mistyped one.

/// Longest names that are compared: every object of a kind is looked at.
const LONGEST: usize = 64;

/// How far a mistyped reference is from a name, in characters to insert, remove, exchange or swap with their neighbour; nothing
/// when it is hardly meant.
#[must_use]
pub fn distance(reference: &str, name: &str) -> Option<usize> {
    let (reference, name): (Vec<char>, Vec<char>) =
        (reference.to_lowercase().chars().collect(), name.to_lowercase().chars().collect());
    // One in four characters may be wrong.
    let most = (reference.len().max(name.len()) / 4).max(1);
    let comparable =
        reference.len().max(name.len()) <= LONGEST && reference.len().abs_diff(name.len()) <= most;
    if !comparable || reference.len().min(name.len()) < 2 {
        return None;
    }
    Some(edits(&reference, &name)).filter(|distance| *distance <= most)
}

/// The optimal string alignment distance, row by row.
fn edits(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let exchanged = last[column] + usize::from(a != b);
            let mut least = exchanged.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped = row > 0 && column > 0 && *a == to[column - 1] && from[row - 1] == *b;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            next.push(least);
        }
        (before, last) = (last, next);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_four_characters_may_be_wrong() {
        for (reference, name, expected) in [
            ("wbe", "web", Some(1)),
            ("Web", "web", Some(0)),
            ("frontnd", "frontend", Some(1)),
            ("fontned", "frontend", Some(2)),
            ("back", "web", None),
            ("fort", "frontend", None),
            ("a", "b", None),
            ("", "web", None),
        ] {
            assert_eq!(distance(reference, name), expected, "{reference} {name}");
        }
        assert_eq!(distance(&"a".repeat(65), &"a".repeat(65)), None);
    }
}
