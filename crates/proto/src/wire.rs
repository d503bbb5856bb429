//! Reads the protobuf wire format field by field, without knowing any message. Never panics, never allocates.
use waybill_core::{Code, Refusal};

/// Deepest nesting of groups that is skipped; prost's own limit.
const GROUP_DEPTH_MAX: usize = 100;

/// One field as it stands in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'b> {
    /// Its number, 1 to 2^29 - 1.
    pub(crate) number: u32,
    /// What it holds.
    pub(crate) value: Value<'b>,
    /// Key and value, exactly as sent.
    pub(crate) raw: &'b [u8],
}

/// The value of a field, by wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'b> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'b [u8]),
    Group,
    Fixed32([u8; 4]),
}

/// Walks over the fields of a message; ends after the first error.
pub(crate) struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    fn read(&mut self) -> Result<Field<'b>, Refusal> {
        let start = self.rest;
        let (number, value) = read_field(&mut self.rest, 0)?
            .ok_or_else(|| undecodable("a group ends that never began"))?;
        let raw = &start[..start.len() - self.rest.len()];
        Ok(Field { number, value, raw })
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<Field<'b>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Reads one varint and moves `rest` past it.
pub(crate) fn varint(rest: &mut &[u8]) -> Result<u64, Refusal> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().copied().enumerate().take(10) {
        if index == 9 && byte > 1 {
            return Err(undecodable("a varint is at most 64 bits"));
        }
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    Err(undecodable("a varint has no end"))
}

/// Reads exactly `N` bytes and moves `rest` past them.
pub(crate) fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Refusal> {
    let (value, tail) = rest.split_first_chunk::<N>().ok_or_else(cut_short)?;
    *rest = tail;
    Ok(*value)
}

/// The refusal of bytes that are no message.
pub(crate) fn undecodable(rule: &str) -> Refusal {
    Refusal::new(Code::Undecodable, "", "", rule).with_hint("send an encoded `waybill.v1.Event`")
}

fn cut_short() -> Refusal {
    undecodable("the bytes end within a field")
}

/// Reads one field; `None` for the end of a group.
fn read_field<'b>(rest: &mut &'b [u8], depth: usize) -> Result<Option<(u32, Value<'b>)>, Refusal> {
    let key = u32::try_from(varint(rest)?)
        .map_err(|_| undecodable("a field number is at most 29 bits"))?;
    let number = key >> 3;
    if number == 0 {
        return Err(undecodable("a field number is never 0"));
    }
    let value = match key & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed64(fixed(rest)?),
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| cut_short())?;
            let (value, tail) = rest.split_at_checked(length).ok_or_else(cut_short)?;
            *rest = tail;
            Value::Bytes(value)
        }
        3 => {
            skip_group(rest, number, depth + 1)?;
            Value::Group
        }
        4 => return Ok(None),
        5 => Value::Fixed32(fixed(rest)?),
        _ => return Err(undecodable("a wire type is 0 to 5")),
    };
    Ok(Some((number, value)))
}

fn skip_group(rest: &mut &[u8], number: u32, depth: usize) -> Result<(), Refusal> {
    if depth > GROUP_DEPTH_MAX {
        return Err(undecodable("groups are nested at most 100 deep"));
    }
    loop {
        let before = *rest;
        if read_field(rest, depth)?.is_some() {
            continue;
        }
        let mut key = before;
        let end = varint(&mut key)? >> 3;
        return if end == u64::from(number) {
            Ok(())
        } else {
            Err(undecodable(
                "a group ends with another number than it began",
            ))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Refusal> {
        Fields::new(bytes)
            .map(|field| field.map(|f| (f.number, f.value)))
            .collect()
    }

    #[test]
    fn fields_come_out_as_they_stand() {
        assert_eq!(
            read(b"\x08\x96\x01\x12\x02hi"),
            Ok(vec![(1, Value::Varint(150)), (2, Value::Bytes(b"hi"))])
        );
        assert_eq!(
            read(b"\x0b\x08\x01\x0c\x15\0\0\0\x01"),
            Ok(vec![(1, Value::Group), (2, Value::Fixed32([0, 0, 0, 1]))])
        );
    }

    #[test]
    fn broken_bytes_are_refused() {
        let cases: [&[u8]; 7] = [
            b"\x00",
            b"\x08",
            b"\x12\x05hi",
            b"\x0b\x08\x01",
            b"\x0b\x14",
            b"\x0c",
            b"\x0e\x01",
        ];
        for bytes in cases {
            assert_eq!(
                read(bytes).unwrap_err().code,
                Code::Undecodable,
                "{bytes:?}"
            );
        }
        assert!(read(&[0x0B; 4_000]).is_err());
    }
}
