//! What a container is told of the things of its node that it has for itself.

use std::collections::BTreeMap;

/// Adds `DOCKER_RESOURCE_KIND` and `CORACLE_RESOURCE_KIND` for each kind: the names, or the number of what has none.
///
/// The first is Docker's, with the kind in capitals and otherwise as it is; in the second what may not be in the name of a
/// shell's variable becomes `_`. They take the place of variables that service and image have under these names: a task
/// must not be told of things that are another's.
pub(super) fn with_variables(
    mut environment: Vec<String>,
    generic: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    for (kind, names) in generic {
        let kind = kind.to_ascii_uppercase();
        let plain: String = kind.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        for name in [format!("DOCKER_RESOURCE_{kind}"), format!("CORACLE_RESOURCE_{plain}")] {
            environment.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
            environment.push(format!("{name}={}", names.join(",")));
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_told_and_cannot_be_forged() {
        let generic = [
            ("gpu-x".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
            ("SSD".to_owned(), vec!["2".to_owned()]),
        ];
        let environment = vec!["A=1".to_owned(), "DOCKER_RESOURCE_SSD=9".to_owned()];
        assert_eq!(
            with_variables(environment, &generic.into()),
            [
                "A=1",
                "DOCKER_RESOURCE_SSD=2",
                "CORACLE_RESOURCE_SSD=2",
                "DOCKER_RESOURCE_GPU-X=a,b",
                "CORACLE_RESOURCE_GPU_X=a,b",
            ]
        );
        assert_eq!(with_variables(Vec::new(), &BTreeMap::new()), Vec::<String>::new());
    }
}
