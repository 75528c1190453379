//! The snapshots of a slice in one row: a line for each EVSE, together a tenth of what they are one by one, and for the database one
//! row instead of hundreds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Zstandard's fastest level of those that are numbered: snapshots are alike, and higher levels find little more.
const LEVEL: i32 = 1;

/// Why a row cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("not base64: {0}")]
    Text(#[from] base64::DecodeError),
    #[error("not Zstandard: {0}")]
    Packed(#[from] std::io::Error),
    #[error("not UTF-8: {0}")]
    Lines(#[from] std::string::FromUtf8Error),
}

/// `lines` as text that any column takes. Each is without a line break, as JSON is.
///
/// # Errors
/// [`std::io::Error`] if there is no memory for it.
pub(crate) fn pack(lines: &[String]) -> std::io::Result<String> {
    let packed = zstd::bulk::compress(lines.join("\n").as_bytes(), LEVEL)?;
    Ok(STANDARD.encode(packed))
}

/// What [`pack`] made, as lines in one text.
pub(crate) fn unpack(body: &str) -> Result<String, Unreadable> {
    let packed = STANDARD.decode(body)?;
    Ok(String::from_utf8(zstd::stream::decode_all(
        packed.as_slice(),
    )?)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_come_back_as_they_were(lines in prop::collection::vec("[^\n]{1,40}", 1..20)) {
            let body = pack(&lines).unwrap();
            prop_assert!(body.is_ascii());
            let read = unpack(&body).unwrap();
            prop_assert_eq!(read.split('\n').collect::<Vec<_>>(), lines);
        }

        #[test]
        fn what_is_damaged_is_refused_or_read_but_never_a_panic(body in "[A-Za-z0-9+/]{0,80}={0,2}") {
            let _ = unpack(&body);
        }
    }

    #[test]
    fn what_is_not_a_slice_says_what_is_wrong() {
        for (body, expected) in [("é", "not base64"), ("AAAA", "not Zstandard")] {
            let refused = unpack(body).unwrap_err().to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }
}
