//! Fixed-width base 36 (`0-9a-z`) of big-endian byte strings, as join tokens and identifiers use it.

use zeroize::Zeroize;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Why a text is not the base 36 form of a byte string. Never contains the text: it may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Base36Error {
    /// The text has another length than the form demands.
    #[error("has {actual} characters instead of {expected}")]
    Length {
        /// Characters that the form has.
        expected: usize,
        /// Characters that the text has.
        actual: usize,
    },
    /// Some character is none of `0-9a-z`.
    #[error("has a character that is none of 0-9 and a-z at position {position}")]
    Character {
        /// Position in bytes, from 1.
        position: usize,
    },
    /// The number does not fit the bytes it should fill.
    #[error("is a number larger than {bits} bits")]
    Overflow {
        /// Bits that the value may have.
        bits: usize,
    },
}

/// Writes `bytes`, a big-endian number, as exactly `width` characters, padded with `0` on the left.
///
/// `width` must be wide enough for every value of `bytes`; what does not fit is cut off on the left.
pub fn encode(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut text = vec![b'0'; width];
    for character in text.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = remainder * 256 + u32::from(*byte);
            // A remainder is below 36, so the quotient of at most 36 * 256 - 1 by 36 is a byte.
            *byte = (value / 36) as u8;
            remainder = value % 36;
        }
        *character = DIGITS[remainder as usize];
    }
    number.zeroize();
    // Moved, not copied: the text may be a secret. The digits are ASCII.
    String::from_utf8(text).unwrap_or_default()
}

/// Reads exactly `width` characters into `bytes`, a big-endian number.
///
/// # Errors
/// Another length, another character than `0-9a-z` (upper case included), or a number that is too
/// large for `bytes`, which are then zero.
pub fn decode(text: &str, width: usize, bytes: &mut [u8]) -> Result<(), Base36Error> {
    bytes.fill(0);
    if text.len() != width {
        return Err(Base36Error::Length { expected: width, actual: text.chars().count() });
    }
    for (index, character) in text.bytes().enumerate() {
        let digit = match character {
            b'0'..=b'9' => character - b'0',
            b'a'..=b'z' => character - b'a' + 10,
            _ => {
                bytes.zeroize();
                return Err(Base36Error::Character { position: index + 1 });
            }
        };
        if !multiply_and_add(bytes, digit) {
            bytes.zeroize();
            return Err(Base36Error::Overflow { bits: bytes.len() * 8 });
        }
    }
    Ok(())
}

/// `number = number * 36 + digit`; false if that does not fit.
fn multiply_and_add(number: &mut [u8], digit: u8) -> bool {
    let mut carry = u32::from(digit);
    for byte in number.iter_mut().rev() {
        let value = u32::from(*byte) * 36 + carry;
        *byte = (value & 0xff) as u8;
        carry = value >> 8;
    }
    carry == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(secret: [u8; 16], digest: [u8; 32]) {
            let mut read = [0; 16];
            decode(&encode(&secret, 25), 25, &mut read).unwrap();
            prop_assert_eq!(read, secret);
            let mut read = [0; 32];
            decode(&encode(&digest, 50), 50, &mut read).unwrap();
            prop_assert_eq!(read, digest);
        }

        #[test]
        fn any_text_is_refused_or_canonical(text in "[0-9a-z]{25}") {
            let mut read = [0; 16];
            if decode(&text, 25, &mut read).is_ok() {
                prop_assert_eq!(encode(&read, 25), text);
            }
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(encode(&[0; 16], 25), "0".repeat(25));
        assert_eq!(encode(&[0, 35], 3), "00z");
        assert_eq!(encode(&[1, 0], 3), "074");
        assert_eq!(encode(&[0xff; 16], 25), "f5lxx1zz5pnorynqglhzmsp33");
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let mut read = [0; 16];
        let long = "z".repeat(25);
        assert_eq!(decode(&long, 25, &mut read), Err(Base36Error::Overflow { bits: 128 }));
        assert_eq!(decode("0A", 2, &mut read), Err(Base36Error::Character { position: 2 }));
        assert_eq!(decode("0", 2, &mut read), Err(Base36Error::Length { expected: 2, actual: 1 }));
        assert!(decode("é", 2, &mut read).is_err());
    }
}
