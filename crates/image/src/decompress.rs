//! One decompressing reader for archives and layers: bounded in output and ratio, and honest about whose fault an error is.

use std::cell::Cell;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::error::{ImageError, LimitKind};
use crate::limits::Limits;

/// How a stream is compressed, as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Bytes of a stream that are looked at to tell its compression.
const MAGIC_BYTES: usize = 6;

/// Tells the compression from the first bytes; names the formats that are known but not supported.
fn detect(magic: &[u8], place: &str) -> Result<Compression, ImageError> {
    let unsupported = |what: &str| {
        Err(ImageError::Unsupported {
            what: format!("{what} compression of {place}"),
            instead: "use gzip, zstd or no compression".into(),
        })
    };
    match magic {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        // Skippable frames may come first (RFC 8878, section 3.1.2).
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => unsupported("xz"),
        [b'P', b'K', 3, 4, ..] => unsupported("zip"),
        _ => Ok(Compression::None),
    }
}

/// Reads the compressed side; counts, and marks failures of the caller's reader as such.
struct CompressedSide<R> {
    source: R,
    place: Rc<str>,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for CompressedSide<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer).map_err(|error| tag_input(error, &self.place))?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// Wraps a reader's own error; interruptions stay what they are so that callers may retry.
fn tag_input(error: io::Error, place: &str) -> io::Error {
    if error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    ImageError::from_read(error, |source| ImageError::Input { place: place.to_owned(), source }).into_io()
}

type Compressed<R> = BufReader<CompressedSide<Chain<Cursor<Vec<u8>>, R>>>;

enum Decoder<R: Read> {
    None(Compressed<R>),
    Gzip(Box<MultiGzDecoder<Compressed<R>>>),
    Zstd(Box<ZstdDecoder<'static, Compressed<R>>>),
}

/// The uncompressed bytes of a stream.
pub(crate) struct Decompressed<R: Read> {
    decoder: Decoder<R>,
    compression: Compression,
    place: Rc<str>,
    compressed: Rc<Cell<u64>>,
    uncompressed: u64,
    maximum: u64,
    ratio: u64,
    ratio_free: u64,
}

impl<R: Read> Decompressed<R> {
    /// Looks at the first bytes of `source` and decodes accordingly; `place` names it in errors.
    pub(crate) fn new(mut source: R, place: &str, limits: &Limits) -> Result<Self, ImageError> {
        let place: Rc<str> = place.into();
        let magic = read_magic(&mut source).map_err(|error| {
            ImageError::from_read(error, |source| ImageError::Input { place: place.to_string(), source })
        })?;
        let compression = detect(&magic, &place)?;
        let compressed = Rc::new(Cell::new(0));
        let side = CompressedSide {
            source: Cursor::new(magic).chain(source),
            place: place.clone(),
            count: compressed.clone(),
        };
        let side = BufReader::with_capacity(64 << 10, side);
        let decoder = match compression {
            Compression::None => Decoder::None(side),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(side))),
            Compression::Zstd => Decoder::Zstd(Box::new(
                zstd_decoder(side, limits.zstd_window_log).map_err(|error| damaged(error, &place))?,
            )),
        };
        Ok(Self {
            decoder,
            compression,
            place,
            compressed,
            uncompressed: 0,
            maximum: limits.uncompressed_bytes,
            ratio: limits.compression_ratio,
            ratio_free: limits.ratio_free_bytes,
        })
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    fn check(&self) -> Result<(), ImageError> {
        if self.uncompressed > self.maximum {
            return Err(ImageError::limit(&*self.place, LimitKind::UncompressedBytes, self.maximum));
        }
        let compressed = self.compressed.get().max(1);
        let is_bomb = self.uncompressed > self.ratio_free && self.uncompressed / compressed > self.ratio;
        if self.compression != Compression::None && is_bomb {
            return Err(ImageError::limit(&*self.place, LimitKind::CompressionRatio, self.ratio));
        }
        Ok(())
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match &mut self.decoder {
            Decoder::None(source) => source.read(buffer),
            Decoder::Gzip(source) => source.read(buffer),
            Decoder::Zstd(source) => source.read(buffer),
        };
        let count = result.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => damaged(error, &self.place).into_io(),
        })?;
        self.uncompressed += count as u64;
        self.check().map_err(ImageError::into_io)?;
        Ok(count)
    }
}

fn zstd_decoder<R: io::BufRead>(source: R, window_log: u32) -> io::Result<ZstdDecoder<'static, R>> {
    let mut decoder = ZstdDecoder::with_buffer(source)?;
    decoder.window_log_max(window_log)?;
    Ok(decoder)
}

/// What comes out of a decoder untyped is the decoder's own complaint.
fn damaged(error: io::Error, place: &str) -> ImageError {
    ImageError::from_read(error, |error| ImageError::Compression {
        place: place.to_owned(),
        reason: error.to_string(),
    })
}

fn read_magic(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(MAGIC_BYTES);
    source.take(MAGIC_BYTES as u64).read_to_end(&mut magic)?;
    Ok(magic)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn decompress(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, ImageError> {
        let mut out = Vec::new();
        Decompressed::new(bytes, "test stream", limits)?
            .read_to_end(&mut out)
            .map_err(|error| ImageError::from_read(error, |error| panic!("untyped error {error}")))?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn formats_are_told_by_content() {
        let limits = Limits::default();
        for data in [&b""[..], b"abc", &[7; 100_000]] {
            assert_eq!(decompress(data, &limits).unwrap(), data);
            assert_eq!(decompress(&gzip(data), &limits).unwrap(), data);
            assert_eq!(decompress(&zstd::encode_all(data, 3).unwrap(), &limits).unwrap(), data);
            let two_members = [gzip(data), gzip(data)].concat();
            assert_eq!(decompress(&two_members, &limits).unwrap(), [data, data].concat());
        }
    }

    #[test]
    fn bombs_and_damage_are_told_apart() {
        let tight = Limits {
            uncompressed_bytes: 1000,
            ratio_free_bytes: 100,
            compression_ratio: 10,
            ..Limits::default()
        };
        let message = |bytes: &[u8], limits: &Limits| decompress(bytes, limits).unwrap_err().to_string();
        assert!(message(&[b'x'; 1001], &tight).contains("1000 uncompressed bytes"));
        assert!(
            message(&gzip(&[0; 900]), &tight).contains("limit of 10 uncompressed bytes per compressed byte")
        );
        let zstd_bomb = zstd::encode_all(&[0; 1 << 20][..], 3).unwrap();
        assert!(message(&zstd_bomb, &tight).contains("limit of"));
        let mut cut = gzip(b"some data that is long enough");
        cut.truncate(cut.len() - 9);
        assert!(message(&cut, &Limits::default()).contains("does not decompress"));
        assert!(message(b"BZh91AY", &Limits::default()).contains("bzip2"));
        assert!(message(b"\xfd7zXZ\0", &Limits::default()).contains("xz"));
    }

    #[test]
    fn failing_sources_are_input_errors() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let start = Cursor::new(gzip(&[1; 1000])[..20].to_vec());
        let mut reader = Decompressed::new(start.chain(Failing), "test stream", &Limits::default()).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        let error = ImageError::from_read(error, |error| panic!("untyped error {error}"));
        assert!(matches!(error, ImageError::Input { .. }), "{error:?}");
    }
}
