//! Textual encoding of DER (RFC 7468), written into memory that is wiped.

use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// DER bytes per line: 64 characters.
const BYTES_PER_LINE: usize = 48;

/// A section of a PEM text.
pub(crate) struct Section {
    pub(crate) kind: SectionKind,
    pub(crate) der: Zeroizing<Vec<u8>>,
}

impl PemObject for Section {
    fn from_pem(kind: SectionKind, der: Vec<u8>) -> Option<Self> {
        Some(Self { kind, der: Zeroizing::new(der) })
    }
}

/// The sections of `text` in their order; text between sections is ignored.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Section>, rustls_pki_types::pem::Error> {
    Section::pem_slice_iter(text).collect()
}

/// Writes sections one after the other. The buffer is made large enough at once, so that growing
/// it leaves no copy of a key behind.
pub(crate) fn write<'a>(sections: impl Iterator<Item = (&'a str, &'a [u8])> + Clone) -> Zeroizing<Vec<u8>> {
    let capacity = sections.clone().map(|(label, der)| encoded_length(label, der)).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    for (label, der) in sections {
        append(&mut text, label, der);
    }
    debug_assert_eq!(text.len(), capacity, "the buffer must not have grown");
    text
}

fn encoded_length(label: &str, der: &[u8]) -> usize {
    let lines = der.len().div_ceil(BYTES_PER_LINE);
    "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len() + der.len().div_ceil(3) * 4 + lines
}

fn append(text: &mut Vec<u8>, label: &str, der: &[u8]) {
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    for line in der.chunks(BYTES_PER_LINE) {
        for group in line.chunks(3) {
            append_group(text, group);
        }
        text.push(b'\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        text.extend_from_slice(part.as_bytes());
    }
}

/// One to three bytes as four characters.
fn append_group(text: &mut Vec<u8>, group: &[u8]) {
    let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
    let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    for position in 0..4 {
        if position <= group.len() {
            text.push(ALPHABET[(bits >> (18 - 6 * position) & 0x3f) as usize]);
        } else {
            text.push(b'=');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(first in proptest::collection::vec(any::<u8>(), 1..200),
                                      second in proptest::collection::vec(any::<u8>(), 1..200)) {
            let text = write([("CERTIFICATE", &first[..]), ("PRIVATE KEY", &second[..])].into_iter());
            let sections = parse(&text).unwrap();
            prop_assert_eq!(sections.len(), 2);
            prop_assert!(matches!(sections[0].kind, SectionKind::Certificate));
            prop_assert_eq!(&sections[0].der[..], &first[..]);
            prop_assert!(matches!(sections[1].kind, SectionKind::PrivateKey));
            prop_assert_eq!(&sections[1].der[..], &second[..]);
        }
    }
}
