//! Mounts, by their target.

use coracle_proto::v1;

use crate::opt::mount::MountFlag;

/// Removes the mounts at the targets in `remove` and adds those of `add`; a mount at the same target is replaced.
///
/// Two additions with one target are both kept: the managers refuse that and say why.
pub(crate) fn merge(current: Vec<v1::Mount>, add: &[MountFlag], remove: &[String]) -> Vec<v1::Mount> {
    let gone = |target: &str| {
        remove.iter().any(|wanted| same(wanted, target))
            || add.iter().any(|flag| same(&flag.0.target, target))
    };
    let mut merged: Vec<_> = current.into_iter().filter(|mount| !gone(&mount.target)).collect();
    merged.extend(add.iter().map(|flag| flag.0.clone()));
    merged
}

/// `/data/` and `/data` are one place.
fn same(one: &str, other: &str) -> bool {
    let parts = |path| str::split(path, '/').filter(|part| !part.is_empty() && *part != ".");
    parts(one).eq(parts(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_merged_by_target() {
        let bind = |source: &str, target: &str| format!("type=bind,source={source},target={target}");
        let table = [
            (
                vec![bind("/a", "/x")],
                vec![bind("/b", "/y")],
                vec![],
                vec![bind("/a", "/x"), bind("/b", "/y")],
            ),
            (vec![bind("/a", "/x")], vec![bind("/b", "/x/")], vec![], vec![bind("/b", "/x/")]),
            (vec![bind("/a", "/x"), bind("/b", "/y")], vec![], vec!["/x/", "/no"], vec![bind("/b", "/y")]),
            (vec![bind("/a", "/x")], vec![], vec!["/a"], vec![bind("/a", "/x")]),
            (
                vec![],
                vec![bind("/a", "/x"), bind("/b", "/x")],
                vec![],
                vec![bind("/a", "/x"), bind("/b", "/x")],
            ),
        ];
        let flags =
            |texts: &[String]| texts.iter().map(|t| t.parse::<MountFlag>().unwrap()).collect::<Vec<_>>();
        for (current, add, remove, expected) in table {
            let remove: Vec<_> = remove.into_iter().map(str::to_owned).collect();
            let before = flags(&current).into_iter().map(|flag| flag.0).collect();
            let merged: Vec<_> = merge(before, &flags(&add), &remove).into_iter().map(MountFlag).collect();
            assert_eq!(merged, flags(&expected), "{current:?} + {add:?} - {remove:?}");
        }
    }
}
