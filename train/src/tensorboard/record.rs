//! TFRecord framing: length (u64), masked CRC-32C of the length, data, masked CRC-32C of the data; little endian.

use std::io::{self, Write};

/// Checksums are stored rotated and offset, since checksums of data that hold checksums are weak.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Writes a record.
pub fn write(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked(&length))?;
    out.write_all(data)?;
    out.write_all(&masked(data))
}

/// The records of a file's bytes, up to the first that is not whole.
pub struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_at_checked(8)?;
        let (length_sum, rest) = rest.split_at_checked(4)?;
        let size = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
        let (data, rest) = rest.split_at_checked(size)?;
        let (data_sum, rest) = rest.split_at_checked(4)?;
        self.0 = rest;
        (masked(length) == length_sum && masked(data) == data_sum).then_some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_published_bytes() {
        // The record of b"abc" as TensorFlow writes it.
        let mut bytes = Vec::new();
        write(&mut bytes, b"abc").unwrap();
        assert_eq!(bytes[..8], 3u64.to_le_bytes());
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
        assert_eq!(bytes.len(), 8 + 4 + 3 + 4);
        assert_eq!(Records(&bytes).collect::<Vec<_>>(), [b"abc"]);
    }

    #[test]
    fn damage_ends_the_records() {
        let mut bytes = Vec::new();
        for data in [b"one", b"two"] {
            write(&mut bytes, data).unwrap();
        }
        for at in 19..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Records(&damaged).collect::<Vec<_>>(), [b"one"], "byte {at}");
        }
    }
}
