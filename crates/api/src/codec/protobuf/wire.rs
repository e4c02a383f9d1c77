//! Protobuf's wire format: varints, lengths, field keys. A writer that goes backwards, as upstream's does, so that
//! a message's length is known when it must be written; a reader that borrows.

use super::ProtobufError;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const DELIMITED: u8 = 2;
const FIXED32: u8 = 5;

/// A buffer filled from its end: what is written last stands first.
pub(crate) struct Backward {
    buffer: Vec<u8>,
    /// The first byte in use.
    start: usize,
}

impl Backward {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.max(16);
        Self { buffer: vec![0; capacity], start: capacity }
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        if self.start < bytes.len() {
            self.grow(bytes.len());
        }
        let end = self.start;
        self.start -= bytes.len();
        self.buffer[self.start..end].copy_from_slice(bytes);
    }

    fn grow(&mut self, need: usize) {
        let used = self.len();
        let capacity = (self.buffer.len() * 2).max(used + need);
        let mut buffer = vec![0; capacity];
        buffer[capacity - used..].copy_from_slice(&self.buffer[self.start..]);
        self.start = capacity - used;
        self.buffer = buffer;
    }

    fn unsigned(&mut self, mut value: u64) {
        let mut bytes = [0; 10];
        let mut at = 0;
        while value >= 0x80 {
            bytes[at] = value as u8 | 0x80;
            value >>= 7;
            at += 1;
        }
        bytes[at] = value as u8;
        self.raw(&bytes[..=at]);
    }

    fn key(&mut self, number: u32, wire_type: u8) {
        self.unsigned(u64::from(number) << 3 | u64::from(wire_type));
    }

    /// An integer or bool; negative ones take ten bytes.
    pub(crate) fn varint(&mut self, number: u32, value: i64) {
        self.unsigned(value as u64);
        self.key(number, VARINT);
    }

    pub(crate) fn double(&mut self, number: u32, value: f64) {
        self.raw(&value.to_le_bytes());
        self.key(number, FIXED64);
    }

    pub(crate) fn bytes(&mut self, number: u32, value: &[u8]) {
        self.raw(value);
        self.delimiter(number, value.len());
    }

    /// What stands before bytes, text and messages.
    pub(crate) fn delimiter(&mut self, number: u32, length: usize) {
        self.unsigned(length as u64);
        self.key(number, DELIMITED);
    }

    pub(crate) fn string(&mut self, number: u32, value: &str) {
        self.bytes(number, value.as_bytes());
    }

    /// A message; `content` writes its fields, last first.
    pub(crate) fn message(&mut self, number: u32, content: impl FnOnce(&mut Self)) {
        let before = self.len();
        content(self);
        self.delimiter(number, self.len() - before);
    }
}

/// The fields of one message.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// The value of a field, by its wire type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Delimited(&'a [u8]),
    Fixed32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and value.
    pub(crate) fn next_field(&mut self) -> Result<Option<(u32, Wire<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        // Go's readers look at 32 bits of it.
        let number = (key >> 3) as i32;
        let number = u32::try_from(number).ok().filter(|number| *number > 0);
        let number = number.ok_or(ProtobufError::IllegalTag { number: (key >> 3) as i32, key })?;
        let value = match (key & 7) as u8 {
            VARINT => Wire::Varint(self.varint()?),
            FIXED64 => Wire::Fixed64(*self.take(8)?.first_chunk().ok_or(ProtobufError::Truncated)?),
            DELIMITED => {
                // Go's lengths are signed.
                let length = i64::try_from(self.varint()?).map_err(|_| ProtobufError::NegativeLength)?;
                let length = usize::try_from(length).map_err(|_| ProtobufError::Overflow)?;
                Wire::Delimited(self.take(length)?)
            }
            FIXED32 => {
                self.take(4)?;
                Wire::Fixed32
            }
            other => return Err(ProtobufError::IllegalWireType(other)),
        };
        Ok(Some((number, value)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(ProtobufError::Truncated)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Overflow)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Wire<'a> {
    pub(crate) fn payload(self, field: &str) -> Result<&'a [u8], ProtobufError> {
        match self {
            Self::Delimited(bytes) => Ok(bytes),
            other => Err(other.wrong(field)),
        }
    }

    pub(crate) fn text(self, field: &str) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.payload(field)?).map_err(|_| ProtobufError::NotText(field.to_owned()))
    }

    pub(crate) fn integer(self, field: &str) -> Result<i64, ProtobufError> {
        match self {
            Self::Varint(value) => Ok(value as i64),
            other => Err(other.wrong(field)),
        }
    }

    pub(crate) fn double(self, field: &str) -> Result<f64, ProtobufError> {
        match self {
            Self::Fixed64(bytes) => Ok(f64::from_le_bytes(bytes)),
            other => Err(other.wrong(field)),
        }
    }

    fn wrong(self, field: &str) -> ProtobufError {
        let found = match self {
            Self::Varint(_) => VARINT,
            Self::Fixed64(_) => FIXED64,
            Self::Delimited(_) => DELIMITED,
            Self::Fixed32 => FIXED32,
        };
        ProtobufError::WrongWireType { field: field.to_owned(), found }
    }
}
