//! How messages with secrets are printed: with what they are about, never with what they hold.

use std::fmt;

use crate::v1;

macro_rules! redacted {
    ($($message:ident { $($shown:ident),* })*) => {$(
        impl fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))$(.field(stringify!($shown), &self.$shown))*.finish_non_exhaustive()
            }
        }
    )*};
}

redacted! {
    StoredCluster { id, version, feature_level, next_raft_id, spec }
    StoredContent { file, number, created_at }
    UpdateFile { file, expected, labels }
    FileContent { number, created_at, size }
    CreateFileRequest { kind, name, labels, template, idempotency_key }
    UpdateFileRequest { kind, file, labels_set, labels_removed, idempotency_key }
    AssignedFile { file, content, template }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_printed() {
        let data = bytes::Bytes::from_static(b"canary");
        let printed = [
            format!("{:?}", v1::StoredContent { data: data.clone(), ..Default::default() }),
            format!("{:?}", v1::StoredCluster { root_key: data.clone(), ..Default::default() }),
            format!("{:?}", v1::UpdateFile { data: Some(data.clone()), ..Default::default() }),
            format!("{:?}", v1::FileContent { data: data.clone(), ..Default::default() }),
            format!("{:?}", v1::CreateFileRequest { data: data.clone(), ..Default::default() }),
            format!("{:?}", v1::UpdateFileRequest { data: Some(data.clone()), ..Default::default() }),
            format!("{:?}", v1::AssignedFile { data: data.clone(), ..Default::default() }),
        ];
        let open = format!("{:?}", v1::LogLine { text: data, ..Default::default() });
        assert!(open.contains("canary"), "the test would see it: {open}");
        for text in printed {
            assert!(!text.contains("canary") && text.contains(".."), "{text}");
        }
    }
}
