//! Binary COPY, <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4>.

use sqlx::PgConnection;

use super::{Lines, Value, Values};

/// Bytes that are sent at once.
const CHUNK: usize = 256 * 1024;

/// Signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Sends `rows` into `table`.
pub(super) async fn rows(
    to: &mut PgConnection,
    table: &str,
    columns: &[&str],
    rows: &Lines<'_>,
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "COPY {table} ({}) FROM STDIN WITH (FORMAT binary)",
        columns.join(", ")
    );
    let mut copy = to.copy_in_raw(&statement).await?;
    let mut buffer = Vec::with_capacity(CHUNK + CHUNK / 8);
    buffer.extend_from_slice(HEADER);
    for row in rows.iter() {
        encode(&row, &mut buffer)?;
        if buffer.len() >= CHUNK {
            copy.send(buffer.as_slice()).await?;
            buffer.clear();
        }
    }
    buffer.extend_from_slice(&(-1_i16).to_be_bytes());
    copy.send(buffer.as_slice()).await?;
    copy.finish().await?;
    Ok(())
}

fn encode(row: &Values<'_>, to: &mut Vec<u8>) -> Result<(), sqlx::Error> {
    let too_large = |_| sqlx::Error::Encode("a row or a column of it is too large".into());
    let columns = i16::try_from(row.0.len()).map_err(too_large)?;
    to.extend_from_slice(&columns.to_be_bytes());
    for value in &row.0 {
        let bytes: &[u8] = match value {
            Value::Integer(Some(value)) => &value.to_be_bytes(),
            Value::Real(Some(value)) => &value.to_be_bytes(),
            Value::Text(Some(value)) => value.as_bytes(),
            Value::Bytes(value) => value,
            Value::Integer(None) | Value::Real(None) | Value::Text(None) => {
                to.extend_from_slice(&(-1_i32).to_be_bytes());
                continue;
            }
        };
        let length = i32::try_from(bytes.len()).map_err(too_large)?;
        to.extend_from_slice(&length.to_be_bytes());
        to.extend_from_slice(bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_as_the_protocol_says() {
        let row = Values::of(4)
            .bind(258_i64)
            .bind("né")
            .bind(None::<f64>)
            .bind(1.0);
        let mut bytes = Vec::new();
        encode(&row, &mut bytes).unwrap();
        let expected = [
            &[0, 4][..],
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 0, 0, 3, b'n', 0xc3, 0xa9],
            &[0xff; 4],
            &[0, 0, 0, 8, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(HEADER.len(), 19);
    }
}
