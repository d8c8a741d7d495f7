//! Frames of HTTP/2 (RFC 9113), made by hand.

/// What every client begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The preface and empty settings.
pub(crate) fn begin() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[])].concat()
}

/// The headers of a call, as literals that are not indexed (RFC 7541, section 6.2.2).
pub(crate) fn call(stream: u32, path: &str, encoding: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    literal(&mut block, ":path", path);
    literal(&mut block, ":authority", "coracle");
    literal(&mut block, "te", "trailers");
    literal(&mut block, "content-type", "application/grpc");
    if !encoding.is_empty() {
        literal(&mut block, "grpc-encoding", encoding);
    }
    frame(1, 0x4, stream, &block)
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        // All are shorter than 127 bytes.
        block.push(u8::try_from(text.len()).unwrap_or(126));
        block.extend_from_slice(text.as_bytes());
    }
}

/// Five bytes in front of a message of gRPC: whether it is compressed, and its length.
pub(crate) fn message_head(compressed: bool, length: u32) -> Vec<u8> {
    [&[u8::from(compressed)], &length.to_be_bytes()[..]].concat()
}
