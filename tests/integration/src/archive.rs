//! A writer of tar files (POSIX ustar), independent of the reader under test.

use std::io::{Result, Write};

const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'content> {
    /// A regular file.
    File(&'content [u8]),
    /// A folder.
    Folder,
    /// A symbolic link to a path.
    SymbolicLink(&'content str),
    /// Another name of an earlier entry.
    HardLink(&'content str),
}

/// Writes entries one after the other.
#[derive(Debug)]
pub struct Tar<W> {
    output: W,
}

impl<W: Write> Tar<W> {
    /// A writer into `output`.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Adds one entry, owned by root, with a fixed time, so that archives are the same every time.
    ///
    /// # Errors
    /// When writing fails.
    pub fn add(&mut self, path: &str, mode: u32, entry: Entry<'_>) -> Result<()> {
        let (kind, link, content) = match entry {
            Entry::File(content) => (b'0', "", content),
            Entry::Folder => (b'5', "", &[][..]),
            Entry::SymbolicLink(target) => (b'2', target, &[][..]),
            Entry::HardLink(target) => (b'1', target, &[][..]),
        };
        self.output.write_all(&header(path, mode, content.len(), kind, link))?;
        self.output.write_all(content)?;
        let padding = content.len().next_multiple_of(BLOCK) - content.len();
        self.output.write_all(&[0; BLOCK][..padding])
    }

    /// Gives the output back without an end mark, so that another writer can go on with it.
    #[must_use]
    pub fn into_entries(self) -> W {
        self.output
    }

    /// Writes the end mark and gives the output back.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        Ok(self.output)
    }
}

fn header(path: &str, mode: u32, size: usize, kind: u8, link: &str) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str, most: usize| {
        let bytes = &text.as_bytes()[..text.len().min(most)];
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, path, 100);
    put(100, &format!("{mode:07o}"), 7);
    put(108, "0000000", 7);
    put(116, "0000000", 7);
    put(124, &format!("{size:011o}"), 11);
    put(136, &format!("{:011o}", 1_700_000_000), 11);
    put(148, "        ", 8);
    put(157, link, 100);
    put(257, "ustar", 5);
    put(263, "00", 2);
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_systems_tar_reads_what_is_written() {
        let mut tar = Tar::new(Vec::new());
        tar.add("etc/", 0o755, Entry::Folder).unwrap();
        tar.add("etc/passwd", 0o644, Entry::File(b"root:x:0:0::/:\n")).unwrap();
        tar.add("bin", 0o777, Entry::SymbolicLink("usr/bin")).unwrap();
        let bytes = tar.finish().unwrap();
        let mut child = Command::new("tar")
            .args(["-tf", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "etc/\netc/passwd\nbin\n");
    }
}
