//! Where secrets and configs are put.

use std::collections::BTreeSet;

use super::{Invalid, invalid, list, normal_path, text};
use crate::secret::{FileKind, FileReference, FileTarget};
use crate::service::ContainerSpec;

/// Permission bits that such files may have.
const MODES: u32 = 0o7777;

/// Checks where the secrets and configs of a container are put.
///
/// # Errors
/// The first thing that is wrong.
pub fn files(spec: &ContainerSpec) -> Result<(), Invalid> {
    list("secret", spec.files.len())?;
    let mut taken: BTreeSet<String> = spec.mounts.iter().map(|mount| normal_path(&mount.target)).collect();
    for reference in &spec.files {
        let field = field(reference);
        let FileTarget::File { path, mode, .. } = &reference.target else { continue };
        text(field, path)?;
        if path.trim_matches('/').is_empty() || path.ends_with('/') {
            return invalid(field, path, "the target is the path of a file");
        }
        if path.split('/').any(|part| matches!(part, "." | "..")) {
            return invalid(field, path, "the target has no '.' or '..' in it");
        }
        if *mode & !MODES != 0 {
            return invalid(field, format!("{mode:o}"), "the mode is an octal number of at most 7777");
        }
        let target = reference.path().unwrap_or_default();
        if !taken.insert(normal_path(&target)) {
            return invalid(
                field,
                &target,
                "another secret, config or mount has this target; each needs its own",
            );
        }
    }
    Ok(())
}

const fn field(reference: &FileReference) -> &'static str {
    match reference.kind {
        FileKind::Secret => "secret target",
        FileKind::Config => "config target",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::id::FileId;
    use crate::mount::{Mount, MountKind};
    use crate::service::PinnedImage;

    fn reference(kind: FileKind, path: &str) -> FileReference {
        let target = FileTarget::File { path: path.to_owned(), uid: 0, gid: 0, mode: 0o444 };
        let (name, file) = ("key".parse().unwrap(), FileId::from_bits(1));
        FileReference { kind, name, file, content: 1, pinned: false, target }
    }

    fn said(references: Vec<FileReference>) -> String {
        let image = PinnedImage { reference: "web:1".to_owned(), digest: Digest::from_bytes([1; 32]) };
        let mut spec = ContainerSpec::of(image);
        let kind = MountKind::Tmpfs { size: 0, mode: 0o1777 };
        spec.mounts = vec![Mount { target: "/data".to_owned(), read_only: false, kind }];
        spec.files = references;
        files(&spec).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn targets_are_files_of_their_own() {
        let secret = |path| reference(FileKind::Secret, path);
        let config = |path| reference(FileKind::Config, path);
        let of_file = "the target is the path of a file";
        let no_dots = "the target has no '.' or '..' in it";
        let own = "another secret, config or mount has this target; each needs its own";
        let mut loose = secret("key");
        loose.target = FileTarget::File { path: "key".to_owned(), uid: 0, gid: 0, mode: 0o10_000 };
        for (references, expected) in [
            (vec![secret("key"), config("key"), secret("/etc/key")], "fine".to_owned()),
            (vec![secret("")], format!("secret target: invalid value \"\": {of_file}")),
            (vec![config("/etc/")], format!("config target: invalid value \"/etc/\": {of_file}")),
            (vec![secret("../key")], format!("secret target: invalid value \"../key\": {no_dots}")),
            (vec![config("/data")], format!("config target: invalid value \"/data\": {own}")),
            (
                vec![secret("key"), config("/run/secrets/key")],
                format!("config target: invalid value \"/run/secrets/key\": {own}"),
            ),
            (
                vec![loose],
                "secret target: invalid value \"10000\": the mode is an octal number of at most 7777"
                    .to_owned(),
            ),
        ] {
            assert_eq!(said(references), expected);
        }
    }
}
