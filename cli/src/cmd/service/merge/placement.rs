//! Constraints.

use coracle_model::constraint::Constraint;

/// Removes the constraints that say the same as one of `remove`, and adds those of `add` that are not there yet.
pub(crate) fn merge(current: &[String], add: &[Constraint], remove: &[Constraint]) -> Vec<String> {
    let says = |text: &str, constraint: &Constraint| {
        text.parse::<Constraint>().is_ok_and(|known| known == *constraint)
    };
    let mut merged: Vec<String> =
        current.iter().filter(|text| !remove.iter().any(|gone| says(text, gone))).cloned().collect();
    for constraint in add {
        if !merged.iter().any(|text| says(text, constraint)) {
            merged.push(constraint.to_string());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_merged_by_what_they_say() {
        let table: [[&[&str]; 4]; 4] = [
            [&["node.role==worker"], &["node.labels.a!=b"], &[], &["node.role==worker", "node.labels.a!=b"]],
            [&["node.role==worker"], &["node.role == worker"], &[], &["node.role==worker"]],
            [&["node.role==worker", "node.id==x"], &[], &["node.role == worker"], &["node.id==x"]],
            [&["node.role==worker"], &[], &["node.role!=worker"], &["node.role==worker"]],
        ];
        let parsed =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Constraint>>();
        for [current, add, remove, expected] in table {
            let current: Vec<_> = current.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(merge(&current, &parsed(add), &parsed(remove)), expected, "{current:?} + {add:?}");
        }
    }
}
