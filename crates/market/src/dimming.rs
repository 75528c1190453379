//! What a network operator must leave of the draw of controllable devices that it dims: Germany, EnWG 14a.
//!
//! Source: Bundesnetzagentur, decision BK6-22-300 of 27 November 2023, annex 1, on the least net power while dimmed. It holds
//! for draw alone; what is fed back is not limited.

use units::Power;

/// Left to one device that the operator dims itself.
pub const DEVICE: Power = Power::from_watts(4_200);

/// Share of a device's least power that counts for each device beyond the first behind an energy manager (`GZF`), per cent,
/// for 2 devices to 9 and more. Published explainers give both ends; the even steps between are from general knowledge.
const SIMULTANEITY: [i64; 8] = [80, 75, 70, 65, 60, 55, 50, 45];

/// Left to `devices` behind one energy manager together: `device + (n - 1) * GZF * device`, whole watts rounded down;
/// zero for none.
#[must_use]
pub fn behind_manager(devices: usize, device: Power) -> Power {
    let Some(further) = devices.checked_sub(1) else {
        return Power::default();
    };
    let last = SIMULTANEITY.len() - 1;
    let share = further
        .checked_sub(1)
        .map_or(0, |row| SIMULTANEITY[row.min(last)]);
    let further = i64::try_from(further).unwrap_or(i64::MAX);
    let added = device.watts().saturating_mul(further).saturating_mul(share) / 100;
    Power::from_watts(device.watts().saturating_add(added))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_falls_from_four_fifths_to_nine_twentieths() {
        let left = |devices| behind_manager(devices, DEVICE).watts();
        assert_eq!(
            [left(0), left(1), left(2), left(3)],
            [0, 4_200, 7_560, 10_500]
        );
        // 4.2 + 8 * 0.45 * 4.2 and 4.2 + 19 * 0.45 * 4.2 kW.
        assert_eq!([left(9), left(20)], [19_320, 40_110]);
        for devices in 1..40 {
            assert!(
                left(devices) <= left(devices + 1),
                "one device more leaves no less"
            );
        }
    }
}
