//! The forms of a line.

pub(super) mod combined;
pub(super) mod json;

use crate::codec::Request;

/// Bytes of a field of the request that a line has; what is longer is cut.
const FIELD_BYTES_MAX: usize = 512;

/// Bytes of a path that a line has.
const PATH_BYTES_MAX: usize = 4 * 1024;

fn cut(text: &[u8], max: usize) -> &[u8] {
    &text[..text.len().min(max)]
}

/// The value of the first field of this name, as far as a line has it.
fn field<'a>(request: &Request<'a>, name: &str) -> Option<&'a [u8]> {
    let field = request.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))?;
    Some(cut(field.value, FIELD_BYTES_MAX))
}

fn path<'a>(request: &'a Request<'_>) -> &'a [u8] {
    cut(request.path.as_bytes(), PATH_BYTES_MAX)
}

fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
