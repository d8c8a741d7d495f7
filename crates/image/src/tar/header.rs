//! One 512-byte header block: fields, checksum, numbers.

use super::BLOCK;

/// Why a header block is refused; goes into the archive's error with place and offset.
pub(crate) type Reason = String;

/// The fields of a header block that matter here.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) path: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) user: u64,
    pub(crate) group: u64,
    pub(crate) size: u64,
    pub(crate) modified: i64,
    pub(crate) type_flag: u8,
    pub(crate) link: Vec<u8>,
}

/// Offsets and lengths of the fields (POSIX.1-2001, ustar interchange format).
mod field {
    pub(super) const NAME: (usize, usize) = (0, 100);
    pub(super) const MODE: (usize, usize) = (100, 8);
    pub(super) const USER: (usize, usize) = (108, 8);
    pub(super) const GROUP: (usize, usize) = (116, 8);
    pub(super) const SIZE: (usize, usize) = (124, 12);
    pub(super) const MODIFIED: (usize, usize) = (136, 12);
    pub(super) const CHECKSUM: (usize, usize) = (148, 8);
    pub(super) const TYPE: usize = 156;
    pub(super) const LINK: (usize, usize) = (157, 100);
    pub(super) const MAGIC: (usize, usize) = (257, 6);
    pub(super) const PREFIX: (usize, usize) = (345, 155);
}

impl Header {
    /// Reads a block that is not all zeros.
    pub(crate) fn parse(block: &[u8; BLOCK]) -> Result<Self, Reason> {
        verify_checksum(block)?;
        let type_flag = block[field::TYPE];
        Ok(Self {
            path: path(block),
            // Only the permission bits count; some writers put the file type here too.
            mode: (number(block, field::MODE, "mode")? & 0o7777) as u32,
            user: unsigned(block, field::USER, "uid")?,
            group: unsigned(block, field::GROUP, "gid")?,
            size: unsigned(block, field::SIZE, "size")?,
            modified: number(block, field::MODIFIED, "mtime")?,
            type_flag,
            link: text(bytes(block, field::LINK)).to_vec(),
        })
    }
}

fn bytes(block: &[u8; BLOCK], (offset, length): (usize, usize)) -> &[u8] {
    &block[offset..offset + length]
}

/// A text field ends at its first NUL or fills the field.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Name and prefix; only the POSIX format has a prefix, the GNU one keeps times there.
fn path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(bytes(block, field::NAME));
    let prefix = text(bytes(block, field::PREFIX));
    if bytes(block, field::MAGIC) == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// The sum of all bytes with the checksum field as spaces; old writers summed signed bytes.
fn verify_checksum(block: &[u8; BLOCK]) -> Result<(), Reason> {
    let stated = number(block, field::CHECKSUM, "checksum")?;
    let (start, length) = field::CHECKSUM;
    let outside = |index: usize| !(start..start + length).contains(&index);
    let spaces = i64::from(b' ') * length as i64;
    let unsigned: i64 =
        block.iter().enumerate().filter(|(index, _)| outside(*index)).map(|(_, byte)| i64::from(*byte)).sum();
    let signed: i64 = block
        .iter()
        .enumerate()
        .filter(|(index, _)| outside(*index))
        .map(|(_, byte)| i64::from(byte.cast_signed()))
        .sum();
    if stated == unsigned + spaces || stated == signed + spaces {
        Ok(())
    } else {
        Err("header checksum does not match".into())
    }
}

fn unsigned(block: &[u8; BLOCK], at: (usize, usize), name: &str) -> Result<u64, Reason> {
    number(block, at, name)?.try_into().map_err(|_| format!("{name} is negative"))
}

/// A numeric field: octal digits with spaces or NULs around, or base 256 when the first bit is set (GNU).
fn number(block: &[u8; BLOCK], at: (usize, usize), name: &str) -> Result<i64, Reason> {
    let bytes = bytes(block, at);
    if bytes[0] & 0x80 != 0 {
        return base_256(bytes).ok_or_else(|| format!("{name} does not fit in 63 bits"));
    }
    let trimmed = bytes.trim_ascii_start();
    let digits =
        trimmed.iter().position(|byte| matches!(byte, 0 | b' ')).map_or(trimmed, |end| &trimmed[..end]);
    let rest = &trimmed[digits.len()..];
    if rest.iter().any(|byte| !matches!(byte, 0 | b' '))
        || digits.iter().any(|byte| !matches!(byte, b'0'..=b'7'))
    {
        return Err(format!("{name} is not an octal number"));
    }
    // At most twelve digits of three bits: cannot overflow.
    Ok(digits.iter().fold(0, |value, digit| value << 3 | i64::from(digit - b'0')))
}

/// Two's complement, big-endian, without the marker bit; the second bit is the sign.
fn base_256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let first = if negative { bytes[0] } else { bytes[0] & 0x7f };
    let fill = if negative { 0xff } else { 0 };
    let mut wide = [fill; 12];
    let start = wide.len() - bytes.len();
    wide[start..].copy_from_slice(bytes);
    wide[start] = first;
    let (high, low) = wide.split_at(4);
    let value = i64::from_be_bytes(low.try_into().ok()?);
    (high.iter().all(|byte| *byte == fill) && (value < 0) == negative).then_some(value)
}

/// Fills a block for writing; the caller has made sure that everything fits.
pub(crate) struct HeaderFields<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) user: u64,
    pub(crate) group: u64,
    pub(crate) size: u64,
    pub(crate) modified: u64,
    pub(crate) type_flag: u8,
    pub(crate) link: &'a [u8],
}

impl HeaderFields<'_> {
    pub(crate) fn to_block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block, field::NAME, self.name);
        put_octal(&mut block, field::MODE, u64::from(self.mode));
        put_octal(&mut block, field::USER, self.user);
        put_octal(&mut block, field::GROUP, self.group);
        put_octal(&mut block, field::SIZE, self.size);
        put_octal(&mut block, field::MODIFIED, self.modified);
        block[field::TYPE] = self.type_flag;
        put(&mut block, field::LINK, self.link);
        put(&mut block, (field::MAGIC.0, 8), b"ustar\x0000");
        put(&mut block, field::CHECKSUM, b"        ");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        put(&mut block, field::CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

fn put(block: &mut [u8; BLOCK], (offset, length): (usize, usize), value: &[u8]) {
    let used = value.len().min(length);
    block[offset..offset + used].copy_from_slice(&value[..used]);
}

fn put_octal(block: &mut [u8; BLOCK], at: (usize, usize), value: u64) {
    let digits = at.1 - 1;
    // A number that does not fit is given by a PAX record; the field says zero then.
    let fits = value >> (3 * digits) == 0;
    put(block, at, format!("{:0digits$o}\0", if fits { value } else { 0 }).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_256_bounds() {
        assert_eq!(base_256(&[0x80, 0, 0, 0, 0, 0, 0, 5]), Some(5));
        assert_eq!(base_256(&[0xff; 8]), Some(-1));
        assert_eq!(base_256(&[0xff; 12]), Some(-1));
        assert_eq!(
            base_256(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Some(i64::MAX)
        );
        assert_eq!(base_256(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(base_256(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
