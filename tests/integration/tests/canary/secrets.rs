//! What is looked for, in all the forms in which it could be written.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::places::Place;

/// One secret.
pub(crate) struct Secret {
    name: String,
    /// Any of these would give it away.
    forms: Vec<Vec<u8>>,
    /// Where it is at home besides what is true of every secret.
    home: &'static [Place],
}

/// All of them.
#[derive(Default)]
pub(crate) struct Secrets {
    all: Vec<Secret>,
    /// Which were found at home, by name and place.
    at_home: RefCell<BTreeSet<(String, String)>>,
}

impl Secret {
    /// The secret part of a join token: its text, its 16 bytes, and how programs print bytes.
    pub(crate) fn of_token(name: &str, token: &str) -> Result<Self> {
        let (_, text) = token.rsplit_once('-').context("a token has parts")?;
        let number = u128::from_str_radix(text, 36).context("the secret part is base 36")?;
        let mut forms = of_bytes(&number.to_be_bytes());
        forms.push(text.as_bytes().to_vec());
        Ok(Self { name: format!("join token ({name})"), forms, home: &[] })
    }

    /// A value of a container's environment. Its processes have it, and nothing on disk.
    pub(crate) fn of_environment(name: &str, value: &str) -> Self {
        let home = &[Place::ContainerEnvironment];
        Self { name: name.to_owned(), forms: vec![value.as_bytes().to_vec()], home }
    }
}

/// The bytes themselves, in hexadecimal digits, and as lists of numbers and escapes of Rust.
fn of_bytes(bytes: &[u8]) -> Vec<Vec<u8>> {
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    let escaped: String =
        bytes.iter().flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
    let texts = [hexadecimal.to_uppercase(), hexadecimal, list.join(", "), escaped];
    texts.into_iter().map(String::into_bytes).chain([bytes.to_vec()]).collect()
}

impl Secrets {
    pub(crate) fn add(&mut self, secret: Secret) {
        self.all.push(secret);
    }

    /// Private keys by the form of their files: PEM (RFC 7468), and PKCS #8 (RFC 5958) of the kinds that we use.
    pub(crate) fn add_keys(&mut self) {
        let p256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 4, 0x6d, 0x30, 0x6b, 2, 1, 1, 4, 0x20];
        let ed25519 = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let mut forms = vec![b"PRIVATE KEY".to_vec()];
        forms.extend([&p256[..], &ed25519[..]].into_iter().flat_map(of_bytes));
        self.add(Secret { name: "private key".to_owned(), forms, home: &[] });
    }

    /// The key that seals everything, as the node keeps it.
    pub(crate) fn add_data_key(&mut self, data: &Path) -> Result<()> {
        let path = data.join("node/keyring");
        let ring = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        anyhow::ensure!(ring.len() > 64, "a key ring holds keys");
        // Without knowledge of its form: every part of it that is as long as half a key.
        let forms = ring.windows(16).filter(|part| is_random(part)).map(<[u8]>::to_vec).collect();
        self.add(Secret { name: "data key".to_owned(), forms, home: &[Place::KeyRing] });
        Ok(())
    }

    /// What of all this some bytes hold that they should not.
    pub(crate) fn found_in(&self, place: &Place, what: &str, bytes: &[u8]) -> Vec<String> {
        let index = Index::of(bytes);
        let held = self.all.iter().filter(|secret| secret.forms.iter().any(|form| index.has(form)));
        let (home, foreign): (Vec<_>, Vec<_>) = held.partition(|secret| secret.home.contains(place));
        let mut at_home = self.at_home.borrow_mut();
        at_home.extend(home.into_iter().map(|secret| (secret.name.clone(), format!("{place:?}"))));
        foreign.into_iter().map(|secret| format!("{} in {what}", secret.name)).collect()
    }

    /// Every place that may hold a secret does: else the search is blind there, or the exception is out of date.
    ///
    /// # Errors
    /// Which does not.
    pub(crate) fn all_were_at_home(&self) -> Result<()> {
        for secret in &self.all {
            for place in secret.home {
                let found = self.at_home.borrow().contains(&(secret.name.clone(), format!("{place:?}")));
                anyhow::ensure!(found, "{} was not found in {place:?}, where it may be", secret.name);
            }
        }
        Ok(())
    }

    /// Each form of each secret would be found.
    ///
    /// # Errors
    /// Which would not.
    pub(crate) fn search_works(&self) -> Result<()> {
        for secret in &self.all {
            anyhow::ensure!(!secret.forms.is_empty(), "{} has no form", secret.name);
            for form in &secret.forms {
                let planted = [&b"before "[..], form, &b" after"[..]].concat();
                anyhow::ensure!(Index::of(&planted).has(form), "{} is not found", secret.name);
            }
        }
        Ok(())
    }
}

/// Bytes among which no two are alike but a few: text and padding are not.
fn is_random(part: &[u8]) -> bool {
    let different: BTreeSet<u8> = part.iter().copied().collect();
    different.len() >= 13 && !part.iter().all(|byte| byte.is_ascii_graphic())
}

/// Positions by their first two bytes, because there are many forms to look for in much text.
struct Index<'bytes> {
    bytes: &'bytes [u8],
    starts: Vec<Vec<u32>>,
}

impl<'bytes> Index<'bytes> {
    fn of(bytes: &'bytes [u8]) -> Self {
        let mut starts = vec![Vec::new(); 1 << 16];
        for (at, pair) in bytes.windows(2).enumerate() {
            if let Ok(at) = u32::try_from(at) {
                starts[usize::from(u16::from_be_bytes([pair[0], pair[1]]))].push(at);
            }
        }
        Self { bytes, starts }
    }

    fn has(&self, form: &[u8]) -> bool {
        let [first, second, ..] = form else { return false };
        let starts = &self.starts[usize::from(u16::from_be_bytes([*first, *second]))];
        starts.iter().any(|at| self.bytes[*at as usize..].starts_with(form))
    }
}
