//! Unsigned varints (<https://github.com/multiformats/unsigned-varint>): seven bits a byte, least significant first.
//! Pure.

use bytes::{BufMut, BytesMut};

/// The longest one that the specification allows: 63 bits.
pub(super) const MAX_BYTES: usize = 9;

pub(super) fn put(bytes: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        bytes.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.put_u8(number as u8);
}

/// Bytes of a number.
pub(super) fn len(number: u64) -> u64 {
    u64::from((64 - number.leading_zeros()).div_ceil(7).max(1))
}

/// The number at the beginning of `bytes` and its length; `None` while more bytes are needed.
pub(super) fn get(bytes: &[u8]) -> Result<Option<(u64, usize)>, &'static str> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().take(MAX_BYTES).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let minimal = index == 0 || *byte != 0;
            return if minimal { Ok(Some((number, index + 1))) } else { Err("not minimal") };
        }
    }
    if bytes.len() >= MAX_BYTES { Err("longer than 9 bytes") } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_of_63_bits_come_back_and_every_beginning_asks_for_more(number in 0_u64..1 << 63, shift in 0..63) {
            let number = number >> shift;
            let mut bytes = BytesMut::new();
            put(&mut bytes, number);
            prop_assert_eq!(bytes.len() as u64, len(number));
            prop_assert_eq!(get(&bytes), Ok(Some((number, bytes.len()))));
            for end in 0..bytes.len() {
                prop_assert_eq!(get(&bytes[..end]), Ok(None));
            }
        }
    }

    #[test]
    fn padded_and_endless_numbers_are_refused() {
        assert_eq!(get(&[0x80, 0x00]), Err("not minimal"));
        assert_eq!(get(&[0xff; 9]), Err("longer than 9 bytes"));
        assert_eq!(get(&[0x00]), Ok(Some((0, 1))));
    }
}
