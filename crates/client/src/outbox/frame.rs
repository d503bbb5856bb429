//! Frames: length, CRC32C, payload. What is no frame is told from what is.
use std::ops::Range;

/// What every file of frames begins with; the last byte is the version of the format.
///
/// 1: length u32, CRC32C u32 over length and payload, payload.
pub(super) const FILE_START: [u8; 8] = *b"WBOUTBX\x01";

/// Length and CRC.
pub(super) const FRAME_START: usize = 8;

/// Wraps a payload; `None` for one that is too long for a frame.
pub(super) fn frame(payload: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(payload.len()).ok()?.to_be_bytes();
    let mut bytes = Vec::with_capacity(FRAME_START + payload.len());
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(length, payload).to_be_bytes());
    bytes.extend_from_slice(payload);
    Some(bytes)
}

/// The payloads of a file's frames, from an offset on, up to the first bytes that are no frame.
pub(super) fn payloads(file: &[u8], from: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = from;
    std::iter::from_fn(move || {
        let payload = payload_at(file, at)?;
        at = payload.end;
        Some(payload)
    })
}

fn payload_at(file: &[u8], at: usize) -> Option<Range<usize>> {
    let (length, rest) = file.get(at..)?.split_first_chunk::<4>()?;
    let (checked, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let start = at + FRAME_START;
    (checksum(*length, payload) == u32::from_be_bytes(*checked))
        .then(|| start..start + payload.len())
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(payloads: &[&[u8]]) -> Vec<u8> {
        let frames = payloads.iter().flat_map(|payload| frame(payload).unwrap());
        FILE_START.into_iter().chain(frames).collect()
    }

    fn read(file: &[u8]) -> Vec<&[u8]> {
        payloads(file, FILE_START.len())
            .map(|range| &file[range])
            .collect()
    }

    #[test]
    fn golden_bytes() {
        let expected = "57424f5554425801 00000005 9cd4eb3c 6576656e74".replace(' ', "");
        assert_eq!(hex::encode(file(&[b"event"])), expected);
    }

    #[test]
    fn reads_what_it_wrote_and_stops_where_that_ends() {
        let payloads: [&[u8]; 4] = [b"one", b"", b"three", &[0; 300]];
        let whole = file(&payloads);
        assert_eq!(read(&whole), payloads);
        assert_eq!(
            read(&[&whole[..], &[0; 100]].concat()),
            payloads,
            "zeros are no frame"
        );
        for cut in 0..whole.len() {
            assert!(payloads.starts_with(&read(&whole[..cut])), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_no_frame(at: prop::sample::Index, bit in 0_u8..8) {
            let payloads: [&[u8]; 3] = [b"one", b"two", b"three"];
            let mut bytes = file(&payloads);
            let at = FILE_START.len() + at.index(bytes.len() - FILE_START.len());
            bytes[at] ^= 1 << bit;
            let read = read(&bytes);
            prop_assert!(read.len() < 3 && payloads.starts_with(&read), "{read:?}");
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>, from in 0_usize..100) {
            let _ = payloads(&bytes, from).count();
        }
    }
}
