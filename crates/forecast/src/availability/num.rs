//! Conversions between counts and the real numbers of the kernels, in one place.

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds and counts far below 2^52"
)]
pub(crate) fn real(value: i64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
pub(crate) fn size(value: usize) -> f64 {
    value as f64
}

/// The largest whole number not above `value`; zero for not-a-number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates; callers stay far inside"
)]
pub(crate) fn floor(value: f64) -> i64 {
    value.floor() as i64
}

/// The largest index not above `value`; zero below zero and for not-a-number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates at zero; callers stay far inside"
)]
pub(crate) fn index(value: f64) -> usize {
    value as usize
}

/// Narrows a value for storage: seven digits are more than a forecast has.
#[expect(clippy::cast_possible_truncation, reason = "rounds to seven digits")]
pub(crate) fn narrow(value: f64) -> f32 {
    value as f32
}
