//! The map of a sparse file: where its data is, between holes (GNU tar manual, "PAX Format, Version 1.0").
//!
//! Decimal numbers, one on a line: how many pieces, then offset and length of each; padded to whole blocks. The data of the
//! pieces follows.

use std::io::{self, Read};

use crate::error::Refusal;
use crate::tar::BLOCK;

/// Pieces of a file at most: what follows the last one counts as data.
pub(crate) const PIECES: u64 = 1 << 20;

/// Offset and length of each piece of data.
pub(crate) type Map = Vec<(u64, u64)>;

/// Reads a map from the beginning of the data of an entry; pieces that do not follow each other inside the file, or do not
/// need just the data there is, are refused.
pub(crate) fn read_map(data: &mut impl Read, stored: u64, size: u64) -> io::Result<Result<Map, Refusal>> {
    let mut numbers = Numbers { data, block: [0; BLOCK], at: BLOCK, blocks: 0 };
    let refused = |why| Ok(Err(Refusal::SparseMap(why)));
    let Some(count) = numbers.next()?.filter(|count| *count <= PIECES) else {
        return refused("it has no, or too many, pieces");
    };
    let mut map = Map::new();
    let (mut end, mut sum) = (0_u64, 0_u64);
    for _ in 0..count {
        let (Some(offset), Some(length)) = (numbers.next()?, numbers.next()?) else {
            return refused("a number cannot be read");
        };
        let Some(next) = offset.checked_add(length).filter(|next| offset >= end && *next <= size) else {
            return refused("its pieces are not in order inside the file");
        };
        (end, sum) = (next, sum + length);
        map.push((offset, length));
    }
    if numbers.blocks * BLOCK as u64 + sum != stored {
        return refused("its pieces are not what the entry has");
    }
    Ok(Ok(map))
}

struct Numbers<'a, R> {
    data: &'a mut R,
    block: [u8; BLOCK],
    at: usize,
    blocks: u64,
}

impl<R: Read> Numbers<'_, R> {
    /// The next number; nothing when there is none.
    fn next(&mut self) -> io::Result<Option<u64>> {
        let mut number: Option<u64> = None;
        loop {
            let byte = match self.byte() {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                byte => byte?,
            };
            match byte {
                b'\n' => return Ok(number),
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let next = number.unwrap_or(0).checked_mul(10).and_then(|tens| tens.checked_add(digit));
                    // File sizes have 63 bits.
                    let Some(next) = next.filter(|next| *next <= i64::MAX as u64) else { return Ok(None) };
                    number = Some(next);
                }
                _ => return Ok(None),
            }
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        if self.at == BLOCK {
            self.data.read_exact(&mut self.block)?;
            self.at = 0;
            self.blocks += 1;
        }
        let byte = self.block[self.at];
        self.at += 1;
        Ok(byte)
    }
}

/// A map as text, padded.
pub(crate) fn write_map(map: &[(u64, u64)]) -> Vec<u8> {
    let mut text = format!("{}\n", map.len()).into_bytes();
    for (offset, length) in map {
        text.extend_from_slice(format!("{offset}\n{length}\n").as_bytes());
    }
    text.resize(text.len().next_multiple_of(BLOCK), 0);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], data: u64, size: u64) -> Result<Map, Refusal> {
        let mut block = text.to_vec();
        block.resize(block.len().next_multiple_of(BLOCK), 0);
        let stored = block.len() as u64 + data;
        read_map(&mut block.as_slice(), stored, size).unwrap()
    }

    #[test]
    fn a_map_comes_back() {
        let map: Map = (0..100).map(|at| (at * 10_000, 4096)).chain([(1 << 40, 0)]).collect();
        let text = write_map(&map);
        assert_eq!(read(&text, 100 * 4096, 1 << 40), Ok(map));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, data, size) in [
            (&b""[..], 0, 10),
            (b"1\n", 0, 10),
            (b"1\n0\nx\n", 0, 10),
            (b"1\n0\n11\n", 11, 10),
            (b"2\n5\n2\n3\n2\n", 4, 10),
            (b"1\n0\n4\n", 5, 10),
            (b"1\n18446744073709551615\n4\n", 4, 10),
            (b"99999999999999\n", 0, 10),
        ] {
            assert!(read(text, data, size).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
