//! Pages: many records in one value of the engine, which works by the value.
//!
//! A page is a row of `length of the key (4) | length of the value (4) | key | value`, lengths in little-endian; in place
//! of a length [`REMOVED`] says that the record is gone, and no value follows. It is kept compressed, as an LZ4 block
//! behind its length (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>).

use std::io;

use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};

/// A page is closed once it is this long. The engine keeps up to sixteen values together and writes them as one.
const PAGE_BYTES: usize = 8 << 10;

const REMOVED: u32 = u32::MAX;

/// Puts records into pages, in the order they come.
#[derive(Default)]
pub(super) struct Pages {
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
    bytes: usize,
}

impl Pages {
    /// Adds a record, or that it is gone.
    pub(super) fn add(&mut self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let before = self.open.len();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        self.open.extend_from_slice(&length(key)?.to_le_bytes());
        self.open.extend_from_slice(&value.map_or(Ok(REMOVED), length)?.to_le_bytes());
        self.open.extend_from_slice(key);
        self.open.extend_from_slice(value.unwrap_or_default());
        self.bytes += self.open.len() - before;
        if self.open.len() >= PAGE_BYTES {
            self.close();
        }
        Ok(())
    }

    fn close(&mut self) {
        self.full.push(compress_prepend_size(&self.open));
        self.open.clear();
    }

    /// How long all of them are, not compressed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pages.
    pub(super) fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.open.is_empty() {
            self.close();
        }
        self.full
    }
}

/// Shows the records of a page; `None`: it is gone.
///
/// # Errors
/// If it is not a page.
pub(super) fn read(page: &[u8], mut show: impl FnMut(&[u8], Option<&[u8]>)) -> io::Result<()> {
    let records = decompress_size_prepended(page).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let mut rest = &records[..];
    while !rest.is_empty() {
        let key_length = take_length(&mut rest)?;
        let value_length = take_length(&mut rest)?;
        let key = take(&mut rest, key_length)?;
        let value = if value_length == REMOVED { None } else { Some(take(&mut rest, value_length)?) };
        show(key, value);
    }
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], length: u32) -> io::Result<&'a [u8]> {
    rest.split_off(..length as usize).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a page is cut off"))
}

fn take_length(rest: &mut &[u8]) -> io::Result<u32> {
    let bytes = take(rest, 4)?;
    Ok(u32::from_le_bytes(bytes.try_into().map_err(io::Error::other)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    type Records = Vec<(Vec<u8>, Option<Vec<u8>>)>;

    fn paged(records: &Records) -> Vec<Vec<u8>> {
        let mut pages = Pages::default();
        for (key, value) in records {
            pages.add(key, value.as_deref()).unwrap();
        }
        pages.finish()
    }

    proptest! {
        #[test]
        fn what_is_put_into_pages_is_read_from_them(
            records in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..40), proptest::option::of(
                    proptest::collection::vec(any::<u8>(), 0..3000))),
                0..40,
            ),
        ) {
            let pages = paged(&records);
            let mut found = Records::new();
            for page in &pages {
                prop_assert!(decompress_size_prepended(page).unwrap().len() < PAGE_BYTES + 8 + 40 + 3000);
                read(page, |key, value| found.push((key.to_vec(), value.map(<[u8]>::to_vec)))).unwrap();
            }
            prop_assert_eq!(found, records);
        }
    }

    #[test]
    fn a_page_that_is_cut_off_is_an_error() {
        let page = paged(&vec![(b"key".to_vec(), Some(b"value".to_vec()))]).remove(0);
        for end in 0..page.len() {
            assert!(read(&page[..end], |_, _| {}).is_err(), "{end}");
        }
        let records = decompress_size_prepended(&page).unwrap();
        for end in 1..records.len() {
            assert!(read(&compress_prepend_size(&records[..end]), |_, _| {}).is_err(), "{end}");
        }
    }
}
